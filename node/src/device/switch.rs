//! Another device while everybody plays.
//!
//! The new device is opened while the old one still plays, so that only a fade separates them and a device that cannot
//! be opened changes nothing. Where both need the same hardware or the same name, the old one is closed first, and opened
//! again if the new one fails.

use super::{AudioChoice, DeviceConfig, DeviceError};

/// Why the device was not changed; the old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The new one cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Another change is under way, or a driver does not answer.
    #[error("the audio device is being changed already; try again in some seconds")]
    Busy,
}

/// In which order two devices change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Open the new one first; should it be busy, see whether it is the old one that keeps it so.
    OpenFirst {
        /// Whether the old device may be what stands in the way.
        old_may_block: bool,
    },
    /// The old one must go first: it would be in the way for certain, or make `auto` choose something worse.
    CloseFirst,
}

/// The order for a change away from `old`, which is open on `old_host`.
pub(super) fn order(old: &DeviceConfig, old_host: &str, new: &DeviceConfig) -> Order {
    let holds_hardware = matches!(old_host, "jack" | "alsa");
    let same = old.choice == new.choice;
    match &new.choice {
        AudioChoice::Null | AudioChoice::File { .. } => Order::OpenFirst { old_may_block: false },
        _ if !holds_hardware => Order::OpenFirst { old_may_block: false },
        AudioChoice::Auto => Order::CloseFirst,
        AudioChoice::Jack if old_host == "jack" => Order::CloseFirst,
        AudioChoice::Jack | AudioChoice::Device(_) if same => Order::CloseFirst,
        AudioChoice::Jack | AudioChoice::Device(_) => Order::OpenFirst { old_may_block: true },
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn the_old_device_goes_first_only_where_it_is_in_the_way() {
        let card = |name: &str| config(AudioChoice::Device(name.into()));
        let (null, jack) = (config(AudioChoice::Null), config(AudioChoice::Jack));
        assert_eq!(order(&null, "null", &card("hw:1")), Order::OpenFirst { old_may_block: false });
        assert_eq!(order(&card("hw:1"), "alsa", &null), Order::OpenFirst { old_may_block: false });
        assert_eq!(order(&card("hw:1"), "alsa", &card("hw:1")), Order::CloseFirst);
        assert_eq!(order(&card("hw:1"), "alsa", &card("hw:2")), Order::OpenFirst { old_may_block: true });
        assert_eq!(order(&jack, "jack", &jack), Order::CloseFirst);
        assert_eq!(order(&config(AudioChoice::Auto), "jack", &jack), Order::CloseFirst);
        assert_eq!(order(&card("hw:1"), "alsa", &config(AudioChoice::Auto)), Order::CloseFirst);
    }
}

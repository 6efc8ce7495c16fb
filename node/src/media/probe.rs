
use std::sync::Mutex;
pub static P: Mutex<[Vec<u64>; 4]> = Mutex::new([Vec::new(), Vec::new(), Vec::new(), Vec::new()]);
pub fn note(kind: usize, v: u64) {
    let mut p = P.lock().unwrap();
    if p[kind].capacity() == 0 { p[kind].reserve(2000); }
    p[kind].push(v);
    if p[kind].len() == 2000 {
        p[kind].sort();
        let q = |f: f64| p[kind][((f * 1999.0) as usize)] / 1000;
        tracing::info!("PROBE {kind} us p1 {} p50 {} p90 {} p99 {} p99.5 {} max {}", q(0.01), q(0.5), q(0.9), q(0.99), q(0.995), q(1.0));
        p[kind].clear();
    }
}

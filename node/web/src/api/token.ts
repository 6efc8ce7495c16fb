// The key to the node's API. It comes in the link's fragment, which no browser sends anywhere, and leaves the address at
// once so that it is neither in the history nor on a shared screen. sessionStorage keeps it for a reload of this tab.

const KEY = "bandmesh-token";
const TOKEN = /^[A-Za-z0-9_-]{16,256}$/;
let current: string | null = null;

/** Takes the token out of the address, or from before a reload. */
export function takeToken(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (given) keepToken(given);
  current ??= stored();
  return current;
}

/** Takes a token, or a link with one, that somebody pasted. `false` if that is neither. */
export function pasteToken(text: string): boolean {
  const given = text.includes("#") ? new URLSearchParams(text.slice(text.indexOf("#") + 1)).get("token") : text.trim();
  return given !== null && keepToken(given);
}

export function token(): string | null {
  return current;
}

/** The node refused the token. */
export function forgetToken(): void {
  current = null;
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // A browser that stores nothing has nothing to forget.
  }
}

function keepToken(given: string): boolean {
  if (!TOKEN.test(given)) return false;
  current = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // Without storage the token lasts until the page is reloaded.
  }
  return true;
}

function stored(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

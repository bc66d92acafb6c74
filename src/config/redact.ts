/** What stands in place of a secret. */
export const MASK = '***';

const SECRET_WORD = '(?:password|passwd|passphrase|pwd|secret|token)';

/** `://user:`, what comes before a password in a URL; also percent-encoded. */
const BEFORE_PASSWORD = /(?::\/\/|%3A%2F%2F)[^\s:@/?#]*?(?::|%3A)/i;

/** `password=…` in a query or a connection string, quoted or not; `"password":"…"` in JSON. */
const ASSIGNED = new RegExp(
  `(${SECRET_WORD}(?:"\\s*:|\\s*=|%3D)\\s*)("(?:[^"\\\\]|\\\\.)*"?|'(?:[^'\\\\]|\\\\.)*'?|(?:(?!%26)[^\\s&,;"'])+)`,
  'gi',
);

const SECRET_NAME = new RegExp(SECRET_WORD, 'i');

/** Whether a field or parameter of this name holds a secret. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name);
}

/**
 * The text without the passwords that can be recognised in it. Rather masks too much than too little; what is not
 * recognisable has to be named (`secretsMasker`).
 */
export function redact(text: string): string {
  return text.replace(/\S+/g, withoutUrlPassword).replace(ASSIGNED, `$1${MASK}`);
}

/** A password that should have been encoded may hold any character, so everything up to the word's last `@` goes. */
function withoutUrlPassword(word: string): string {
  const end = Math.max(word.lastIndexOf('@'), word.lastIndexOf('%40'));
  const before = end < 0 ? null : BEFORE_PASSWORD.exec(word.slice(0, end));
  return before === null ? word : word.slice(0, before.index + before[0].length) + MASK + word.slice(end);
}

/** A function that masks these secrets, as they are and percent-encoded, and everything that `redact` masks. */
export function secretsMasker(secrets: readonly string[]): (text: string) => string {
  const spellings = new Set(secrets.flatMap(spellingsOf).filter((spelling) => spelling !== ''));
  // The longest first: one secret may be a part of another.
  const ordered = [...spellings].sort((a, b) => b.length - a.length);
  return (text) => {
    let masked = text;
    for (const spelling of ordered) masked = masked.replaceAll(spelling, MASK);
    return redact(masked);
  };
}

function spellingsOf(secret: string): string[] {
  const decoded = percentDecode(secret);
  return [secret, encodeURIComponent(secret.toWellFormed()), ...(decoded === undefined ? [] : [decoded])];
}

/** Undefined where the text is no valid percent-encoding of UTF-8. */
export function percentDecode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

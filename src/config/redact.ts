/** What stands in place of a secret. */
export const MASK = '***';

const SECRET_WORD = '(?:password|passwd|passphrase|pwd|secret|token)';

/**
 * `scheme://user:password@`, also percent-encoded as a whole. A password that should have been encoded may hold any
 * character, so everything up to the last `@` of the word goes.
 */
const URL_PASSWORD = /((?::\/\/|%3A%2F%2F)[^\s:@/?#]*?(?::|%3A))\S*(@|%40)/gi;

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
  return text.replace(URL_PASSWORD, `$1${MASK}$2`).replace(ASSIGNED, `$1${MASK}`);
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

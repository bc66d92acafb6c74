import type { Random } from './random.ts';

const SYLLABLES = 'al be con de ex fi gen hand in load map node or parse query read set to up val write'.split(' ');
const POOL_LINES = 20_000;

/** Makes texts that look like source code: shared lines in an order of their own, so they compress as code does. */
export interface TextMaker {
  /** A text of exactly so many bytes, all ASCII. */
  text(bytes: number): string;
  /** A name as programmers make them. */
  word(): string;
}

export function textMaker(random: Random): TextMaker {
  const syllable = (): string => random.pick(SYLLABLES);
  const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
  const word = (): string => syllable() + capital(syllable()) + (random.next() < 0.5 ? capital(syllable()) : '');
  const shapes: readonly (() => string)[] = [
    () => `const ${word()} = require('./${word()}');`,
    () => `  if (${word()}.${word()} === undefined) return ${word()}(${word()}, ${random.integer(1000)});`,
    () => `    this.${word()} = ${word()} || '${word()} ${word()}';`,
    () => `function ${word()}(${word()}, ${word()}) {`,
    () => '}',
    () => '',
    () => `  // ${word()} ${word()} the ${word()} of ${word()} when ${word()} is ${random.integer(100)}`,
    () => `  for (let i = 0; i < ${word()}.length; i++) ${word()}.push(${word()}[i]);`,
    () => `  return { ${word()}: ${word()}, ${word()}: [${random.integer(256)}, ${random.integer(256)}] };`,
    () => `exports.${word()} = ${word()};`,
  ];
  const pool = Array.from({ length: POOL_LINES }, () => `${random.pick(shapes)()}\n`);
  const text = (bytes: number): string => {
    const lines: string[] = [];
    let length = 0;
    while (length < bytes) {
      const line = random.pick(pool);
      lines.push(line);
      length += line.length;
    }
    return lines.join('').slice(0, bytes);
  };
  return { text, word };
}

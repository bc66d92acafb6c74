import { describe, expect, it } from 'vitest';
import { Histogram } from '../../src/histogram.ts';

describe('a histogram', () => {
  it('gives quantiles that are at most a quarter too long, from a microsecond to minutes', () => {
    for (const ms of [0.001, 0.0123, 0.5, 3, 47, 999, 61_234]) {
      const histogram = new Histogram(1);
      for (let i = 0; i < 100; i++) histogram.record(0, ms);
      histogram.record(0, ms * 3);
      for (const share of [0.01, 0.5, 0.99]) {
        const found = histogram.quantileMs(0, share);
        expect(found).toBeGreaterThanOrEqual(ms * 0.999);
        expect(found).toBeLessThanOrEqual(ms * 1.25 + 0.0002);
      }
      expect(histogram.quantileMs(0, 1)).toBeCloseTo(ms * 3, 9);
    }
  });

  it('ranks like a sorted list', () => {
    const histogram = new Histogram(2);
    const durations = Array.from({ length: 1000 }, (_, at) => ((at * 7919) % 1000) / 10);
    for (const ms of durations) histogram.record(1, ms);
    const sorted = durations.toSorted((a, b) => a - b);
    for (const share of [0.1, 0.5, 0.9, 0.999]) {
      const exact = sorted[Math.ceil(share * 1000) - 1] ?? 0;
      expect(histogram.quantileMs(1, share) / exact).toBeGreaterThanOrEqual(1);
      expect(histogram.quantileMs(1, share) / exact).toBeLessThanOrEqual(1.25);
    }
    expect(histogram.of(0)).toEqual({ count: 0, totalMs: 0, maxMs: 0 });
    expect(histogram.quantileMs(0, 0.5)).toBe(0);
  });

  it('counts what is below bounds, never more than there is', () => {
    const histogram = new Histogram(1);
    for (const ms of [0, 0.0004, 0.02, 4, 4, 70, 1e9, -1]) histogram.record(0, ms);
    const below = histogram.below(0, [0.01, 0.1, 10, 100]);
    expect(below).toEqual([3, 4, 6, 7]);
    expect(histogram.of(0).count).toBe(8);
  });
});

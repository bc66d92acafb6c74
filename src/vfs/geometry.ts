/** Content is cut into chunks of this size; 64 to 512 KiB measured alike, and a random write rewrites one. */
export const CHUNK_BYTES = 128 * 1024;

/** Chunks per row of `contents`: 8 MiB of file, 2.3 KB of packed references. */
export const SEGMENT_CHUNKS = 64;

/** A file up to this size keeps its bytes inside its `contents` row. */
export const INLINE_BYTES = 4096;

/** Limits of names and paths (limits.h). */
export const NAME_MAX_BYTES = 255;
export const TARGET_MAX_BYTES = 4095;

/** Most hard links of a file and most subdirectories of a directory, as ext4 has it for files. */
export const LINK_MAX = 65_000;

/** @returns Bytes that nobody else is likely to choose. They are no secret: node:crypto, which has such too, takes 2 to 8 ms to load. */
export function randomBytes(count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, () => Math.floor(Math.random() * 256)))
}

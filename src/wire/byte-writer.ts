/** A growing buffer in host byte order, which netlink uses throughout. All supported machines are little-endian. */
export class ByteWriter {
  #bytes = zeros(256)
  #length = 0

  get length(): number {
    return this.#length
  }

  u8(value: number): this {
    const offset = this.#take(1)
    this.#bytes.writeUInt8(value, offset)
    return this
  }

  u16(value: number): this {
    const offset = this.#take(2)
    this.#bytes.writeUInt16LE(value, offset)
    return this
  }

  u32(value: number): this {
    const offset = this.#take(4)
    this.#bytes.writeUInt32LE(value >>> 0, offset)
    return this
  }

  i32(value: number): this {
    const offset = this.#take(4)
    this.#bytes.writeInt32LE(value, offset)
    return this
  }

  bytes(value: Uint8Array): this {
    const offset = this.#take(value.length)
    this.#bytes.set(value, offset)
    return this
  }

  /** Pads with zeros to the next multiple of 4. @see include/uapi/linux/netlink.h, NLMSG_ALIGN */
  align(): this {
    this.#take(-this.#length & 3)
    return this
  }

  setU16(offset: number, value: number): void {
    this.#bytes.writeUInt16LE(value, offset)
  }

  setU32(offset: number, value: number): void {
    this.#bytes.writeUInt32LE(value, offset)
  }

  /** @returns The bytes so far; a view, valid until the next write. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Asked for before the buffer is, which may have to be a larger one. */
  #take(count: number): number {
    const offset = this.#length
    this.#length += count
    if (this.#length > this.#bytes.length) {
      const larger = zeros(Math.max(4 * this.#bytes.length, this.#length))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    return offset
  }
}

/** A small one comes out of node's pool, which Buffer.alloc() does not use. */
function zeros(length: number): Buffer {
  return Buffer.allocUnsafe(length).fill(0)
}

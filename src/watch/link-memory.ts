import { decodeLink, IFF_UP, RTM_DELLINK } from '../wire/link.ts'
import type { Message } from '../wire/netlink-message.ts'

/**
 * What the kernel last said of each link, as far as a repair would care: a bridge tells of a port again when only a timer of it has changed.
 */
export class LinkMemory {
  readonly #known = new Map<string, string>()

  /** @param message RTM_NEWLINK or RTM_DELLINK. @returns Whether it says what was not known. @throws RangeError when it is short */
  isNews({ type, body }: Message): boolean {
    const { index, flags, ifname, master, address, protinfo, linkinfo } = decodeLink(body)
    // A bridge tells of a port in messages of its own family, which lack what the others hold.
    const key = `${body[0]} ${index}`
    if (type === RTM_DELLINK) {
      this.#known.delete(key)
      return true
    }
    const mac = address === undefined ? '' : Buffer.from(address).toString('hex')
    const state = [
      flags & IFF_UP,
      ifname,
      master,
      mac,
      protinfo?.hairpin,
      protinfo?.isolated,
      linkinfo?.bridgePort?.hairpin,
      linkinfo?.bridgePort?.isolated,
    ].join(' ')
    const news = this.#known.get(key) !== state
    this.#known.set(key, state)
    return news
  }
}

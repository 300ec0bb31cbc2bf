/** The configuration of type `firewall`. @see containernetworking/plugins plugins/meta/firewall/README.md */
import type { Isolation } from '../chained/firewall-rules.ts'
import type { FirewallOptions } from '../chained/firewalling.ts'
import { invalidField, type JsonObject, optionalString } from '../cni/json.ts'
import type { RawConfig } from '../cni/request.ts'
import type { Result } from '../cni/result.ts'
import { isFirewalldActive } from '../nat/firewalld.ts'

/** A chain's name, and firewalld's zones: nothing that an option or a rule could be made of. */
const CHAIN = /^\w[\w.-]{0,27}$/
const ZONE = /^\w[\w/-]{0,63}$/
/** In a rule, a `+` at the end would stand for any ending. */
const BRIDGE = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}$/

/**
 * @param previous The result of the plugin before: its first interface is the bridge that `ingressPolicy` is about.
 * @throws TsnetError with CNI code 7 for a bad value
 */
export function parseFirewallConfig({ raw }: RawConfig, previous?: Result): FirewallOptions {
  const isolation = parseIsolation(raw, previous)
  return {
    backend: parseBackend(raw),
    adminChain: checked(raw, 'iptablesAdminChainName', { fallback: 'CNI-ADMIN', form: CHAIN, wish: 'the name of a chain' }),
    zone: checked(raw, 'firewalldZone', { fallback: 'trusted', form: ZONE, wish: 'the name of a zone' }),
    ...(isolation && { isolation }),
  }
}

/** Without one, firewalld where it rules the host. */
function parseBackend(raw: JsonObject): FirewallOptions['backend'] {
  const name = optionalString(raw, 'backend') || 'auto'
  if (name === 'iptables' || name === 'firewalld') return name
  if (name !== 'auto') throw invalidField('backend', name, '"auto", "iptables" or "firewalld"')
  return isFirewalldActive() ? 'firewalld' : 'iptables'
}

function parseIsolation(raw: JsonObject, previous: Result | undefined): Isolation | undefined {
  const policy = optionalString(raw, 'ingressPolicy') || 'open'
  if (policy === 'open') return undefined
  if (policy !== 'same-bridge' && policy !== 'isolated') throw invalidField('ingressPolicy', policy, '"open", "same-bridge" or "isolated"')
  if (previous === undefined) return undefined
  const bridge = previous.interfaces[0]?.name ?? ''
  if (!BRIDGE.test(bridge)) throw invalidField('prevResult.interfaces[0].name', bridge, 'the name of a bridge that "ingressPolicy" could be about')
  return { bridge, policy }
}

interface Form {
  readonly fallback: string
  readonly form: RegExp
  readonly wish: string
}

function checked(raw: JsonObject, key: string, { fallback, form, wish }: Form): string {
  const value = optionalString(raw, key) || fallback
  if (!form.test(value)) throw invalidField(key, value, wish)
  return value
}

/** Types that put one interface into a container, with an IPAM plugin of strangers that says what it was asked. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CniCall, CniDocument, CniOutcome, Container, Host } from './host.ts'

const FOLDER = '/run/ipam'

/** Leases what the configuration says, to each container one, and fails where a file of the command's name says so. */
const IPAM = `#!/bin/sh
lease=${FOLDER}/leases/$CNI_CONTAINERID:$CNI_IFNAME
echo "$CNI_COMMAND $CNI_CONTAINERID" | sed 's/ $//' >> ${FOLDER}/log
if [ -e ${FOLDER}/fail-$CNI_COMMAND ]; then echo '{"code": 11, "msg": "no address left"}'; exit 1; fi
case $CNI_COMMAND in
ADD) echo "$CNI_NETNS" > "$lease"; cat ${FOLDER}/result ;;
DEL) rm -f "$lease" ;;
esac
`

/** What the leases have, on the subnet of the uplink and the machine outside. */
const RESULT = {
  cniVersion: '1.1.0',
  ips: [{ address: '10.99.0.50/24', gateway: '10.99.0.2' }],
  routes: [{ dst: '0.0.0.0/0' }],
  dns: { nameservers: ['10.99.0.2'], search: ['example.test'] },
}

export interface LinkJson {
  readonly ifname: string
  readonly ifindex: number
  readonly address: string
  readonly mtu: number
  readonly flags: readonly string[]
  readonly ifalias?: string
  readonly master?: string
  /** The link below: its name where it is in the same namespace, else its index. */
  readonly link?: string
  readonly link_index?: number
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[]
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Readonly<Record<string, unknown>> }
}

interface DeviceConf {
  readonly type: string
  readonly ipam?: boolean
  readonly [key: string]: unknown
}

/** One plugin type on one host. */
export class Device {
  readonly #host: Host
  readonly #type: string
  readonly #conf: object

  /** @param conf With `ipam: true`, the stranger gives the address. */
  constructor(host: Host, { ipam = false, ...conf }: DeviceConf) {
    this.#host = host
    this.#type = conf.type
    this.#conf = { cniVersion: '1.1.0', name: 'net', ...conf, ...(ipam && { ipam: { type: 'stranger' } }) }
    const folder = host.machine.path(FOLDER)
    mkdirSync(join(folder, 'leases'), { recursive: true })
    writeFileSync(join(folder, 'result'), JSON.stringify(RESULT))
    writeFileSync(join(folder, 'stranger'), IPAM)
    chmodSync(join(folder, 'stranger'), 0o755)
  }

  call(command: string, call: CniCall = {}): CniOutcome {
    return this.#host.cni(command, this.full(call))
  }

  /** @returns The call with all that makes it one of this type. */
  full({ conf, ...call }: CniCall = {}): CniCall {
    return {
      program: join(process.cwd(), 'dist/bin', this.#type),
      conf: { ...this.#conf, ...Object(conf) },
      ...call,
      env: { CNI_PATH: FOLDER, ...call.env },
    }
  }

  /** @throws Error unless the call succeeds */
  must(command: string, call: CniCall = {}): CniDocument {
    const { status, json, stdout, stderr } = this.call(command, call)
    if (status !== 0) throw new Error(`${command} failed: ${stdout}${stderr}`)
    return json
  }

  /** @returns Who holds a lease. */
  leases(): string {
    return this.#host.sh(`ls ${FOLDER}/leases`).trim()
  }

  /** @returns What the stranger was asked since the last time. */
  asked(): readonly string[] {
    const path = this.#host.machine.path(join(FOLDER, 'log'))
    const lines = readFileSync(path, 'utf8').trim().split('\n')
    writeFileSync(path, '')
    return lines
  }

  /** Lets a command of the stranger's fail, or succeed again. */
  fail(command: string, fails = true): void {
    this.#host.sh(`${fails ? 'touch' : 'rm'} ${FOLDER}/fail-${command}`)
  }
}

export function linkOf(place: Host | Container, name: string): LinkJson | undefined {
  return linksOf(place).find(({ ifname }) => ifname === name)
}

export function linksOf(place: Host | Container): readonly LinkJson[] {
  return place.json<LinkJson>('ip', '-j', '-d', 'addr')
}

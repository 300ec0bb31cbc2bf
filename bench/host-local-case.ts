/** Finding and giving back an address by host-local's files: tsnet's entry and the reference's program, each in a folder of its own. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Contender, REFERENCE_FOLDER } from './contender.ts'
import { execute } from './measure.ts'
import { type CaseOptions, interleave, type Row, rowOf } from './series.ts'

const FOLDER = '/var/lib/cni/networks'
const SIZES = [10, 10_000, 60_000] as const

export interface HostLocalPool {
  readonly program: string
  readonly network: string
  /** How many addresses others have. */
  readonly leases: number
}

export function hostLocalCase(options: CaseOptions): readonly Row[] {
  const programs = { tsnet: join(dirname(options.plugin), 'host-local'), reference: `${REFERENCE_FOLDER}/host-local` }
  const contenders = SIZES.flatMap((leases) =>
    Object.entries(programs).map(([who, program]) => {
      options.progress(`${leases} leases for ${who}`)
      return hostLocal({ program, network: `${who}-${leases}`, leases })
    }),
  )
  const samples = interleave(contenders, { ...options, forget: false, ports: false })
  return SIZES.flatMap((leases, i) => {
    const [ours, theirs] = samples.slice(2 * i)
    if (ours === undefined || theirs === undefined) throw new Error('A series is missing')
    const text = `host-local alone, ${leases.toLocaleString('en')} leases`
    return [
      rowOf({ case: `ADD, ${text}`, against: 'reference' }, ours.adds, theirs.adds),
      rowOf({ case: `DEL, ${text}`, against: 'reference' }, ours.dels, theirs.dels),
    ]
  })
}

/** The plugin by itself, over a folder with a file for each lease, as the reference writes them; the next address is free. */
export function hostLocal({ program, network, leases }: HostLocalPool): Contender {
  mkdirSync(`${FOLDER}/${network}`, { recursive: true })
  const address = (i: number) => `10.104.${i >> 8}.${i & 255}`
  for (let i = 2; i < leases + 2; i++) writeFileSync(`${FOLDER}/${network}/${address(i)}`, `filler-${i}\r\neth0`)
  writeFileSync(`${FOLDER}/${network}/last_reserved_ip.0`, address(leases + 1))
  const config = { cniVersion: '1.0.0', name: network, ipam: { type: 'host-local', ranges: [[{ subnet: '10.104.0.0/16' }]] } }
  const call = (command: string, id: string, netns: string) =>
    execute({
      path: program,
      env: { CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0', CNI_PATH: dirname(program) },
      input: JSON.stringify(config),
    })
  return {
    name: `host-local-${network}`,
    add: ({ id, netns }) => ({ cost: call('ADD', id, netns), result: undefined }),
    del: ({ id, netns }) => call('DEL', id, netns),
    stages: () => [],
    forget: () => {},
  }
}

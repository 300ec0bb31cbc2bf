/**
 * Where the time of one call goes, read off the moments of well-known system calls: nothing is built into the program.
 * strace stops the program only at the calls that it looks for, so the phases keep their proportions.
 */
import { readFileSync } from 'node:fs'
import { type Contender, tsnet } from './contender.ts'
import { type Cost, execute, settle } from './measure.ts'
import { type CaseOptions, container, SETTLE_MS } from './series.ts'
import { median } from './statistics.ts'

export interface Phase {
  readonly name: string
  /** Milliseconds. */
  readonly median: number
}

export interface ProfiledCall {
  readonly title: string
  readonly phases: readonly Phase[]
}

/** A phase ends where `until` is seen first; one that is not seen is counted into the next. */
interface Mark {
  readonly name: string
  readonly until: RegExp
  /** Looked for only when the mark before it was seen. */
  readonly follows?: true
}

const TRACE = '/run/bench-trace'
const SYSCALLS = 'execve,openat,read,write,rename,unlink,unlinkat,rmdir,clone3,vfork,wait4,socket,sendto,recvfrom,exit_group'

const BOOT: readonly Mark[] = [
  { name: 'launcher', until: /execve\("[^"]*node"/ },
  { name: 'node: boot', until: /openat\(.*\/cni\.cjs"/ },
  { name: 'bundle: read, compile, run until koffi', until: /openat\(.*\/koffi\.node"/ },
  { name: 'koffi: load, prototypes, rest of the modules', until: /read\(0,/ },
]
const EXIT: readonly Mark[] = [
  { name: 'node: take down', until: /exit_group\(/ },
  { name: 'kernel: free the process', until: /\+\+\+ exited/ },
]
const ADD: readonly Mark[] = [
  ...BOOT,
  { name: 'request', until: /openat\(.*"\/run\/netns\// },
  { name: 'namespaces, locks, state of the network', until: /openat\(.*\/subnet"/ },
  { name: 'lease', until: /openat\(.*\/attachments\/.*\.new"/ },
  { name: 'record, port ledger', until: /rename\(.*\/ports\// },
  { name: 'netlink: look, veth, addresses, routes', until: /CLONE_VFORK|vfork\(/ },
  { name: 'iptables', until: /wait4.*= \d+/ },
  { name: 'announcement, connection tracking', until: /openat\(.*\/attachments\/.*\.new"/ },
  { name: 'final record, result', until: /write\(1,/ },
  ...EXIT,
]
const DEL: readonly Mark[] = [
  ...BOOT,
  { name: 'request', until: /openat\(.*\/networks\/.*\/lock"/ },
  { name: 'lock, record', until: /CLONE_VFORK|vfork\(/ },
  { name: 'start of iptables', until: /sendto\(.*RTM_DELLINK/ },
  { name: 'kernel: delete the veth', until: /recvfrom\(/ },
  { name: 'look for the bridge', until: /sendto\(.*RTM_DELLINK/ },
  { name: 'kernel: delete the bridge', until: /recvfrom\(/, follows: true },
  { name: 'rest of iptables', until: /wait4.*= \d+/ },
  { name: 'connection tracking', until: /openat\(.*\/subnet"/ },
  { name: 'lease', until: /openat\(.*\/ports\/lock"/ },
  { name: 'port ledger', until: /unlink.*\/attachments\// },
  ...EXIT,
]

/** @returns The phases of ADD and DEL beside a standing attachment, and of the first and last one. */
export function profile({ plugin, repetitions, progress }: CaseOptions): readonly ProfiledCall[] {
  const plain = tsnet(plugin)
  const only = series(plain, { title: 'the first / the last attachment', plugin, repetitions, progress })
  plain.add(container('stands', 20_999))
  const beside = series(plain, { title: 'one other attachment stands', plugin, repetitions, progress })
  return [...beside, ...only]
}

interface Series {
  readonly title: string
  readonly plugin: string
  readonly repetitions: number
  readonly progress: (text: string) => void
}

function series(plain: Contender, { title, plugin, repetitions, progress }: Series): readonly ProfiledCall[] {
  const id = title.replace(/\W+/g, '-')
  const walls: { readonly adds: Cost[]; readonly dels: Cost[] } = { adds: [], dels: [] }
  const traces: { readonly adds: Map<string, number>[]; readonly dels: Map<string, number>[] } = { adds: [], dels: [] }
  for (let i = 0; i < repetitions; i++) {
    const subject = container(`${id}-${i}`, 20_000 + i)
    for (const [contender, traced] of [
      [plain, false],
      [tracing(plugin), true],
    ] as const) {
      settle(SETTLE_MS)
      const { cost, result } = contender.add(subject)
      if (traced) traces.adds.push(phasesOf(ADD, readFileSync(TRACE, 'utf8')))
      else walls.adds.push(cost)
      settle(SETTLE_MS)
      const del = contender.del(subject, result)
      if (traced) traces.dels.push(phasesOf(DEL, readFileSync(TRACE, 'utf8')))
      else walls.dels.push(del)
    }
    progress(`${title}: repetition ${i + 1} of ${repetitions}`)
  }
  return [
    { title: headline('ADD', title, walls.adds), phases: medians(ADD, traces.adds) },
    { title: headline('DEL', title, walls.dels), phases: medians(DEL, traces.dels) },
  ]
}

function headline(command: string, title: string, costs: readonly Cost[]): string {
  return `${command}, ${title} (without strace: median ${median(costs.map(({ wall }) => wall)).toFixed(1)} ms)`
}

/** The same program under strace. */
function tracing(plugin: string): Contender {
  const args = ['-f', '-ttt', '-s', '200', '--seccomp-bpf', '-e', `trace=${SYSCALLS}`, '-o', TRACE, plugin]
  return tsnet(plugin, { execute: (execution) => execute({ ...execution, path: 'strace', args }) })
}

/** Lines are `pid seconds.micros call`. */
function phasesOf(marks: readonly Mark[], trace: string): Map<string, number> {
  const lines = trace.split('\n').flatMap((line) => {
    const [, seconds, text] = /^\d+\s+(\d+\.\d+) (.*)$/.exec(line) ?? []
    return seconds === undefined || text === undefined ? [] : [{ at: Number(seconds) * 1000, text }]
  })
  const phases = new Map<string, number>()
  let position = 0
  let since = lines[0]?.at ?? 0
  let seen = true
  for (const { name, until, follows } of marks) {
    const last = name === EXIT.at(-1)?.name
    const found = last ? lines.length - 1 : lines.findIndex(({ text }, i) => i > position && until.test(text))
    const at: number | undefined = follows === true && !seen ? undefined : lines[found]?.at
    seen = at !== undefined
    if (at === undefined) continue
    phases.set(name, at - since)
    since = at
    position = found
  }
  return phases
}

function medians(marks: readonly Mark[], samples: readonly ReadonlyMap<string, number>[]): readonly Phase[] {
  return marks.flatMap(({ name }) => {
    const values = samples.flatMap((sample) => sample.get(name) ?? [])
    return values.length === 0 ? [] : [{ name, median: median(values) }]
  })
}

/** Whole commands of real runtimes, against the same command without a network; test/runtimes/ says where they run. */
import { join } from 'node:path'
import { execute } from './measure.ts'
import type { CaseOptions, Row } from './series.ts'
import { type Summary, summarizeValues } from './statistics.ts'

declare const TSNET_ROOT: string

const LIMIT_SECONDS = 400
const TARGET = 1.25

type Walls = Readonly<Record<string, readonly number[]>>

/** What test/runtimes/measure.mjs prints; a runtime that is not installed is absent. */
interface Measured {
  readonly figures: { readonly podman?: Walls; readonly ctr?: Walls; readonly cri?: { readonly run: Walls; readonly stop: Walls } }
}

export function runtimesCase({ repetitions, progress }: CaseOptions): readonly Row[] {
  const { stdout } = execute({
    path: 'bash',
    args: [join(TSNET_ROOT, 'test/runtimes/run.sh')],
    env: { PATH: process.env['PATH'] ?? '', SCRIPT: 'measure.mjs', LIMIT: String(LIMIT_SECONDS), ROUNDS: String(repetitions) },
    timeout: LIMIT_SECONDS * 1000,
  })
  const { podman, ctr, cri } = (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Measured).figures
  if (podman === undefined) progress('podman is not measured: podman or runc is not installed')
  if (ctr === undefined) progress('ctr and CRI are not measured: containerd or runc is not installed, or does not start')
  const commands: readonly (readonly [string, Walls | undefined])[] = [
    ['podman run --rm -p', podman],
    ['ctr run --rm --cni, a port', ctr],
    ['CRI RunPodSandbox, a port', cri?.run],
    ['CRI StopPodSandbox', cri?.stop],
  ]
  return commands.flatMap(([name, walls]) => (walls === undefined ? [] : rowsOf(name, walls)))
}

function rowsOf(name: string, walls: Walls): readonly Row[] {
  const summary = (kind: string) => summarizeValues(walls[kind] ?? [], 'less')
  const beside = (kind: string) => (walls['none'] === undefined ? summary(`none beside ${kind}`) : summary('none'))
  const row = (kind: string, subject: Summary, other: Summary) => ({
    case: `${name}, ${kind}`,
    subject,
    against: 'no network',
    other,
    ratio: subject.median / other.median,
  })
  return [
    { ...row('agent', summary('tsnet'), beside('tsnet')), target: TARGET },
    row('reference', summary('reference'), beside('reference')),
    // Only where there is a C compiler.
    ...(walls['nothing'] === undefined ? [] : [row('a plugin that does nothing', summary('nothing'), beside('nothing'))]),
  ]
}

/** Runs one case inside its throw-away host and prints what came out as JSON. main.ts starts it. */
import { CASES } from './cases.ts'
import { makeHost } from './host.ts'
import { measureFloor } from './measure.ts'
import { profile } from './profile.ts'
import { summarize } from './statistics.ts'

/** What main.ts passes in the only argument. */
export interface Job {
  readonly case: string
  readonly plugin: string
  readonly repetitions: number
  readonly quick: boolean
  /** What /proc/self/ns/net is outside. */
  readonly machineNetns: string
}

const job = JSON.parse(process.argv[2] ?? '{}') as Job
const options = { ...job, progress: (text: string) => process.stderr.write(`${job.case}: ${text}\n`) }

try {
  makeHost(job.machineNetns)
  process.stdout.write(JSON.stringify(outcome()))
} catch (error) {
  process.stderr.write(`${job.case}: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}

function outcome(): unknown {
  if (job.case === 'floor') return summarize(measureFloor(Math.max(40, job.repetitions)))
  if (job.case === 'profile') return profile(options)
  return CASES.find(({ name }) => name === job.case)?.run(options)
}

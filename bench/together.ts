/** Several calls at a time, by a shell: node would take longer to start a process than some of them to run. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Container, Contender } from './contender.ts'
import { type Execution, execute } from './measure.ts'

const FOLDER = '/run/bench-together'
/** Deleting is not measured: this many at a time. */
const DELETING = 4

interface Added {
  /** From the first start to the last end, milliseconds. */
  readonly wall: number
  /** Of each container, in their order. */
  readonly results: readonly unknown[]
}

/**
 * @param callers How many ADDs run at a time.
 * @throws Error when one fails, or two have the same address
 */
export function addTogether(contender: Contender, subjects: readonly Container[], callers: number): Added {
  mkdirSync(FOLDER)
  const lines = subjects.map((subject, i) => addLine(contender.stages('ADD', subject), i))
  const { wall } = runTogether(lines, callers)
  const results = subjects.map((_, i) => JSON.parse(readFileSync(`${FOLDER}/${i}.out`, 'utf8')) as { ips?: readonly { address: string }[] })
  const addresses = new Set(results.map(({ ips }) => ips?.[0]?.address))
  rmSync(FOLDER, { recursive: true })
  if (addresses.size !== subjects.length || addresses.has(undefined))
    throw new Error(`${contender.name}: ${subjects.length} ADDs at a time gave ${addresses.size} addresses`)
  return { wall, results }
}

export function deleteTogether(contender: Contender, subjects: readonly Container[], results: readonly unknown[]): void {
  mkdirSync(FOLDER)
  const line = (subject: Container, i: number) =>
    contender
      .stages('DEL', subject, results[i])
      .map((stage, n) => {
        writeFileSync(`${FOLDER}/${i}.${n}`, stage.input ?? '')
        return `${program(stage)} <${FOLDER}/${i}.${n}`
      })
      .join(' && ')
  runTogether(subjects.map(line), DELETING)
  rmSync(FOLDER, { recursive: true })
}

/** The result of one stage goes into the input of the next. */
function addLine(stages: readonly Execution[], i: number): string {
  const files = stages.map(({ input = '' }, n) => {
    const path = `${FOLDER}/${i}.${n}`
    writeFileSync(path, n === 0 ? input : `${input.slice(0, -1)},"prevResult":`)
    return path
  })
  const [first, second] = stages
  if (first === undefined) throw new Error('There is nothing to execute')
  const begin = `${program(first)} <${files[0]}`
  if (second === undefined) return `${begin} >${FOLDER}/${i}.out`
  return `result=$(${begin}) && IFS= read -r head <${files[1]} ; printf '%s%s}' "$head" "$result" | ${program(second)} >${FOLDER}/${i}.out`
}

/** @throws Error when one of them fails */
function runTogether(lines: readonly string[], callers: number) {
  const turns = Array.from({ length: callers }, (_, n) => lines.filter((_line, i) => i % callers === n))
  const text = turns.map((turn) => `{ ${turn.map((line) => `${line} || echo ${FOLDER} >>${FOLDER}/failed`).join('\n')}\n} &`)
  writeFileSync(`${FOLDER}/script`, [...text, 'wait', `! [ -e ${FOLDER}/failed ]`, ''].join('\n'))
  return execute({ path: '/bin/sh', args: [`${FOLDER}/script`] })
}

function program({ path, env = {} }: Execution): string {
  return [...Object.entries(env).map(([name, value]) => `${name}='${value}'`), path].join(' ')
}

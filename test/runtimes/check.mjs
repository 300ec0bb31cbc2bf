/** One line per check, and the host that all checks look at. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const BIN = join(dirname(fileURLToPath(import.meta.url)), '../../dist/bin')
export const TSNET = join(BIN, 'tsnet')

const colour = process.stdout.isTTY && !process.env.NO_COLOR
const paint = (code, text) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
const tally = { passed: 0, failed: 0, skipped: 0 }

export function section(title) {
  console.log(`\n${paint(1, title)}`)
}

/** Runs one check and prints its line; a failed one does not end the suite. */
export async function check(name, act) {
  try {
    await act()
    tally.passed++
    console.log(`  ${paint(32, '✔')} ${name}`)
  } catch (error) {
    tally.failed++
    console.log(`  ${paint(31, '✘')} ${name}\n${String(error.message).trimEnd().replace(/^/gm, '      ')}`)
  }
}

export function skip(name, reason) {
  tally.skipped++
  console.log(`  - ${name}: skipped: ${reason}`)
}

/** Prints the closing line. @returns The exit status */
export function conclude() {
  const skipped = tally.skipped === 0 ? '' : `, ${tally.skipped} skipped`
  console.log(`\n${tally.passed} passed, ${tally.failed} failed${skipped}`)
  return tally.failed === 0 && tally.passed > 0 ? 0 : 1
}

export function assert(condition, message) {
  if (!condition) throw new Error(message)
}

export function assertIncludes(text, part, what) {
  assert(text.includes(part), `${what}: “${part}” is not in:\n${text}`)
}

/** @returns What the program did; it is killed when it takes longer than `seconds` */
export function tryRun(argv, { env = {}, seconds = 25 } = {}) {
  const [program, ...args] = argv
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: seconds * 1000,
    killSignal: 'SIGKILL',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { status: status ?? 255, stdout: stdout ?? '', stderr: `${stderr ?? ''}${error?.message ?? ''}` }
}

/** @returns Standard output, trimmed. @throws Error when the program failed */
export function run(argv, options) {
  const { status, stdout, stderr } = tryRun(argv, options)
  assert(status === 0, `${argv.join(' ')}: status ${status}\n${stdout}${stderr}`)
  return stdout.trim()
}

/** Kills a process at once. A number that is none would mean a whole process group. */
export function killHard(pid) {
  assert(Number.isInteger(pid) && pid > 1, `There is no process to kill, but ${pid}`)
  process.kill(pid, 'SIGKILL')
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** Repeats until there is a true result. @returns That result @throws Error of the last attempt after 5 s */
export async function eventually(act, what = 'Waited in vain') {
  for (const end = Date.now() + 5000; ; await sleep(50)) {
    try {
      const value = await act()
      if (value) return value
      assert(Date.now() < end, what)
    } catch (error) {
      if (Date.now() >= end) throw error
    }
  }
}

const OUTSIDE = ['ip', 'netns', 'exec', 'outside']

/** Fetches the page that says who answers whom, over a real connection. @returns The page, or an empty text */
export function fetchOnce(url, entry = []) {
  return tryRun([...entry, 'timeout', '2', 'busybox', 'wget', '-q', '-O', '-', `${url}/cgi-bin/who`]).stdout.trim()
}

/** @returns The page as the machine outside sees it, as soon as there is one */
export const fromOutside = (url) => eventually(() => fetchOnce(url, OUTSIDE), `${url} does not answer to the outside`)

/** @returns The page as the host itself sees it, as soon as there is one */
export const fromHost = (url) => eventually(() => fetchOnce(url), `${url} does not answer to the host`)

export function assertSilent(url) {
  const page = fetchOnce(url, OUTSIDE)
  assert(page === '', `${url} still answers: ${page}`)
}

/** The published port answers from outside, with the client's own address, and from the host by its loopback address. */
export async function assertPublished(port, name) {
  const page = await fromOutside(`http://10.99.0.1:${port}`)
  assertIncludes(page, name, 'The container that answers')
  assertIncludes(page, '10.99.0.2', 'The client that the container sees')
  assertIncludes(await fromHost(`http://127.0.0.1:${port}`), name, 'The container that answers on 127.0.0.1')
  assertIncludes(await fromHost(`http://10.99.0.1:${port}`), name, "The container that answers on the host's address")
}

/** @returns All rules of both families, without counters */
const rules = () => [['iptables-save'], ['ip6tables-save'], ['nft', 'list', 'ruleset']].map((argv) => tryRun(argv).stdout).join('\n')

/** Takes all rules away, as somebody's own firewall script does: a table at a time, since somebody may be at work who makes them again. */
export function flushRules() {
  const empty = ['raw', 'nat', 'filter'].map((table) => `*${table}\\nCOMMIT\\n`).join('')
  for (const program of ['iptables', 'ip6tables']) run(['sh', '-c', `printf '${empty}' | ${program}-restore`])
  tryRun(['nft', 'flush', 'ruleset'])
}

function stateFiles() {
  if (!existsSync('/run/tsnet')) return []
  const paths = readdirSync('/run/tsnet', { recursive: true, encoding: 'utf8' }).map((path) => join('/run/tsnet', path))
  return paths.filter((path) => statSync(path).isFile())
}

/** Asserts that the host has no link, rule, lease, record and port claim of tsnet. */
export function assertNothingLeft() {
  const links = JSON.parse(run(['ip', '-j', 'link'])).map(({ ifname }) => ifname)
  const left = links.filter((name) => name !== 'lo' && name !== 'uplink').map((name) => `link ${name}`)
  left.push(
    ...rules()
      .split('\n')
      .filter((line) => /tsnet/i.test(line)),
  )
  for (const path of stateFiles()) {
    const text = readFileSync(path, 'utf8')
    if (/\/networks\/[^/]+\/subnet$/.test(path))
      left.push(
        ...text
          .split('\n')
          .filter((line) => / leased /.test(line))
          .map((line) => `lease ${line}`),
      )
    if (path.includes('/attachments/')) left.push(`record ${path}`)
    if (/\/ports\/.*\/\d+$/.test(path) && text.trim() !== '') left.push(`claim ${path}`)
  }
  assert(left.length === 0, `left behind:\n${left.join('\n')}`)
}

/** @returns The attachments that tsnet knows */
export const attachments = () => JSON.parse(run([TSNET, 'ls', '--json']))

/** So that one failed check does not make others fail. */
export function detachAll() {
  for (const { containerID } of attachments()) tryRun([TSNET, 'detach', containerID])
}

/** The one entry that a network needs; BACKEND=nftables chooses who writes the rules. */
export const PLUGIN = {
  type: 'tsnet',
  capabilities: { portMappings: true, ips: true, mac: true },
  ...(process.env.BACKEND && { backend: process.env.BACKEND }),
}

/** A folder to use as CNI_PATH whose `tsnet` writes down how it is called before it runs the real one. */
export const RECORDER = '/run/recorder'
const CALLS = '/run/recorder/calls'

/** @returns The calls since the last time */
export function takeCalls() {
  const text = existsSync(CALLS) ? readFileSync(CALLS, 'utf8') : ''
  run(['rm', '-f', CALLS])
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [command, netns] = line.split('|')
      return { command, netns }
    })
}

export const RECORDING_PLUGIN = `#!/bin/sh
printf '%s|%s\\n' "$CNI_COMMAND" "$CNI_NETNS" >>${CALLS}
exec ${TSNET}
`

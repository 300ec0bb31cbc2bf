/** What systemd says of its units, and calls as a runtime would make them. */
import { spawn } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { assert, eventually, run, tryRun } from '../runtimes/check.mjs'

/** Where the units look for the programs. */
export const BIN = '/opt/cni/bin'

/** @returns Properties of a unit, by their names */
export function show(unit) {
  const lines = run(['systemctl', 'show', unit]).split('\n')
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
}

/** Asserts that a unit has these properties, at once. */
export function assertUnit(unit, expected) {
  const properties = show(unit)
  for (const [name, value] of Object.entries(expected)) {
    assert(properties[name] === value, `${name} of ${unit} is ${properties[name]}, not ${value}\n${journal(unit)}`)
  }
}

/** Waits until a unit has these properties. */
export const becomes = (unit, expected) =>
  eventually(() => {
    assertUnit(unit, expected)
    return true
  })

export const journal = (unit) => tryRun(['journalctl', '--no-pager', '-q', '-o', 'cat', '-u', unit]).stdout

/** Puts lines into the section of the service, until the test machine ends or `undo`. */
export function dropIn(unit, lines) {
  const folder = `/run/systemd/system/${unit}.d`
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/test.conf`, `[Service]\n${lines.join('\n')}\n`)
  run(['systemctl', 'daemon-reload'])
  return () => {
    rmSync(folder, { recursive: true })
    run(['systemctl', 'daemon-reload'])
  }
}

/** Makes a network namespace; a call for its container is an object of `id` and whatever a test adds. */
export function container(id, more) {
  run(['ip', 'netns', 'add', id])
  return { id, ...more }
}

/** @returns What the call printed: a document. @throws Error when it failed */
export async function cni(command, call) {
  const { status, stdout, stderr } = await start(command, call)
  assert(status === 0 && stderr === '', `${command} ${call.id}: status ${status}\n${stdout}${stderr}`)
  return stdout === '' ? {} : JSON.parse(stdout)
}

/** @returns Status and output of a call, as a promise: others may run meanwhile */
function start(command, { id, conf, runtimeConfig, prevResult }) {
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: `/run/netns/${id}`,
    CNI_IFNAME: 'eth0',
    CNI_PATH: BIN,
  }
  const child = spawn(`${BIN}/${conf.type}`, { env })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => (output[name] += data))
  child.stdin.end(JSON.stringify({ ...conf, runtimeConfig, prevResult }))
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, ...output })))
}

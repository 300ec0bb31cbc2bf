/** Plain runc and crun, without any engine: `tsnet oci-hook` as createRuntime and poststop. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import {
  assert,
  assertIncludes,
  assertNothingLeft,
  assertPublished,
  attachments,
  check,
  fetchOnce,
  killHard,
  run,
  skip,
  TSNET,
  tryRun,
} from './check.mjs'
import { ROOT, SERVER } from './image.mjs'

export async function ociHook() {
  for (const runtime of ['runc', 'crun']) {
    if (tryRun(['sh', '-c', `command -v ${runtime}`]).status !== 0) skip(runtime, `not installed: ${runtime}`)
    else await withRuntime(runtime)
  }
}

async function withRuntime(runtime) {
  const version = run([runtime, '--version']).split('\n')[0]
  console.log(`  ${version}`)
  const tool = (...argv) => [runtime, '--root', `/run/${runtime}-state`, ...argv]
  const attempt = (name, annotations) => {
    const bundle = makeBundle(runtime, name, annotations)
    return tryRun(['sh', '-c', 'exec "$@" </dev/null >/dev/null 2>/run/stderr', 'sh', ...tool('run', '-d', '-b', bundle, name)])
  }
  const problems = () => run(['sh', '-c', 'cat /run/stderr /run/hook-stderr 2>/dev/null || true'])
  const start = (name, annotations) => {
    const { status } = attempt(name, annotations)
    assert(status === 0, `${runtime} run: ${problems()}`)
  }
  const end = (name) => {
    run(tool('kill', name, 'KILL'))
    run(tool('delete', '-f', name))
  }
  const inside = (name, ...argv) => run(tool('exec', name, ...argv))

  await check(`${runtime} run: by published port and by address, and out; delete leaves nothing`, async () => {
    start('h1', { 'tsnet.network': 'web', 'tsnet.publish': '8080:80, 127.0.0.1:8053:53/udp', 'tsnet.mac': '02:00:00:00:00:51' })
    await assertPublished(8080, 'h1')
    const [{ addresses, ports, mac }] = attachments()
    assert(mac === '02:00:00:00:00:51' && ports.length === 2, JSON.stringify({ mac, ports }))
    assertIncludes(fetchOnce(`http://${addresses[0].address.replace(/\/.*/, '')}`), 'h1', 'By its address')
    inside('h1', '/bin/ping', '-c', '1', '-W', '2', '10.99.0.2')
    end('h1')
    assertNothingLeft()
  })
  await check('a port that is taken: the container does not start, and the other one keeps it', async () => {
    start('h2', { 'tsnet.publish': '8080:80' })
    assert(attempt('h3', { 'tsnet.publish': '8080:80' }).status !== 0, 'it started')
    assertIncludes(problems(), 'Cannot publish 0.0.0.0:8080/tcp', `What ${runtime} says`)
    tryRun(tool('delete', '-f', 'h3'))
    assert(attachments().length === 1, 'something of the refused container is left')
    await assertPublished(8080, 'h2')
  })
  await check('kill -9 of the container, then delete: nothing is left', async () => {
    killHard(JSON.parse(run(tool('state', 'h2'))).pid)
    run(tool('delete', '-f', 'h2'))
    assertNothingLeft()
  })
  await check('a misspelt annotation: the container does not start', () => {
    assert(attempt('h4', { 'tsnet.publsh': '8080:80' }).status !== 0, 'it started')
    assertIncludes(problems(), 'tsnet.publsh', `What ${runtime} says`)
    tryRun(tool('delete', '-f', 'h4'))
    assertNothingLeft()
  })
}

/** crun itself keeps to itself what a hook says. */
const CRUN = { 'run.oci.hooks.stderr': '/run/hook-stderr' }

/** @returns The folder of a config.json with the image's server, the hooks, and no terminal */
function makeBundle(runtime, name, annotations) {
  const bundle = `/run/bundle-${runtime}-${name}`
  mkdirSync(bundle, { recursive: true })
  run(['sh', '-c', `cd ${bundle} && rm -f config.json && ${runtime} spec`])
  const config = JSON.parse(readFileSync(`${bundle}/config.json`, 'utf8'))
  const hook = [{ path: TSNET, args: ['tsnet', 'oci-hook'] }]
  const capabilities = Object.fromEntries(Object.entries(config.process.capabilities).map(([set, names]) => [set, [...names, 'CAP_NET_RAW']]))
  const process_ = { ...config.process, capabilities, terminal: false, args: SERVER, env: ['PATH=/bin', `WHO=${name}`] }
  const own = {
    process: process_,
    root: { path: ROOT, readonly: true },
    hostname: name,
    annotations: { ...CRUN, ...annotations },
    hooks: { createRuntime: hook, poststop: hook },
  }
  writeFileSync(`${bundle}/config.json`, JSON.stringify({ ...config, ...own }))
  return bundle
}

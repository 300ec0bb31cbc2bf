/** An image made of busybox alone, in the archive format that podman and containerd both load. */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { run, tryRun } from './check.mjs'

export const IMAGE = 'localhost/web:1'
export const SERVER = ['/bin/busybox', 'httpd', '-f', '-p', '80', '-h', '/www']
const FOLDER = '/run/image'
/** What is in the image. */
export const ROOT = `${FOLDER}/root`

/** Says who answers, and whom. */
const PAGE = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n%s %s answers %s\\n' "$(hostname)" "$WHO" "$REMOTE_ADDR"
`

/** @returns The path of the archive */
export function makeImage() {
  const root = ROOT
  for (const folder of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'www/cgi-bin']) mkdirSync(`${root}/${folder}`, { recursive: true })
  const busybox = run(['sh', '-c', 'command -v busybox'])
  cpSync(busybox, `${root}/bin/busybox`, { dereference: true })
  for (const library of librariesOf(busybox)) cpSync(library, `${root}${library}`, { recursive: true, dereference: true })
  for (const applet of ['sh', 'hostname', 'sleep', 'wget', 'ip', 'ping']) symlinkSync('busybox', `${root}/bin/${applet}`)
  writeFileSync(`${root}/www/cgi-bin/who`, PAGE)
  chmodSync(`${root}/www/cgi-bin/who`, 0o755)
  writeFileSync(`${root}/etc/passwd`, 'root:x:0:0:root:/:/bin/sh\n')

  run(['tar', '-C', root, '--owner=0', '--group=0', '-cf', `${FOLDER}/layer.tar`, '.'])
  const digest = createHash('sha256')
    .update(readFileSync(`${FOLDER}/layer.tar`))
    .digest('hex')
  writeJson('config.json', {
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Entrypoint: SERVER, Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    history: [{ created: '2026-01-01T00:00:00Z', created_by: 'tsnet' }],
  })
  writeJson('manifest.json', [{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }])
  run(['tar', '-C', FOLDER, '-cf', '/run/web.tar', 'manifest.json', 'config.json', 'layer.tar'])
  return '/run/web.tar'
}

/** A dynamic busybox brings its libraries along; a static one has none. */
const librariesOf = (program) => [...tryRun(['ldd', program]).stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path)

const writeJson = (name, value) => writeFileSync(`${FOLDER}/${name}`, JSON.stringify(value))

/** Starts the image's server in a namespace of /run/netns. @returns The process */
export function serve(namespace) {
  const argv = ['netns', 'exec', namespace, 'busybox', ...SERVER.slice(1, -1), `${FOLDER}/root/www`]
  return spawn('ip', argv, { stdio: 'ignore', env: { ...process.env, WHO: namespace } })
}

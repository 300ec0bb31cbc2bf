// Debian's stock kernel, which has every module, and a static busybox: unpacked below build/vm, not installed.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** Depends on the kernel of the day. */
const KERNEL = 'linux-image-amd64'
const FOLDER = resolve('build/vm/debian')

/** Fetches them unless they are there already. @returns Where they are, and the release as `uname -r` tells it */
export function ensureKernel() {
  if (!existsSync(FOLDER)) fetchPackages()
  const modules = join(FOLDER, 'lib/modules')
  const [release] = readdirSync(modules)
  return { release, image: join(FOLDER, `boot/vmlinuz-${release}`), modules, busybox: join(FOLDER, 'bin/busybox') }
}

function fetchPackages() {
  if (process.arch !== 'x64') throw new Error(`The virtual machine is made for x86-64, and this machine is ${process.arch}`)
  mkdirSync('build/vm', { recursive: true })
  const folder = mkdtempSync(resolve('build/vm/fetch-'))
  try {
    console.error('Fetching a kernel for the virtual machine …')
    if (!download(folder)) {
      // The lists of packages are not there, or older than the kernel's last update.
      run('apt-get', ['update', '-qq'])
      if (!download(folder)) throw new Error(`Cannot fetch the kernel that ${KERNEL} depends on: apt-get finds none`)
    }
    const unpacked = join(folder, 'unpacked')
    for (const name of readdirSync(folder).filter((name) => name.endsWith('.deb'))) run('dpkg-deb', ['-x', join(folder, name), unpacked])
    const [release] = readdirSync(join(unpacked, 'lib/modules'))
    run(join(unpacked, 'bin/busybox'), ['depmod', '-b', unpacked, release])
    renameSync(unpacked, FOLDER)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** @returns Whether it could */
function download(folder) {
  const { stdout } = spawnSync('apt-cache', ['depends', KERNEL], { encoding: 'utf8' })
  const kernel = /Depends: (linux-image-\S+)/.exec(stdout ?? '')?.[1]
  if (kernel === undefined) return false
  const options = ['-qq', '-o', 'APT::Sandbox::User=root']
  return spawnSync('apt-get', ['download', ...options, kernel, 'busybox-static'], { cwd: folder }).status === 0
}

/** @returns Standard output. @throws Error with what the program says when it fails */
export function run(program, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { maxBuffer: 1 << 28, ...options })
  if (status !== 0) throw new Error(`Cannot run ${program} ${args.join(' ')}: ${error?.message ?? stderr.toString().trim()}`)
  return stdout
}

// Runs a script in a virtual machine that sees this machine's files, and cannot change them. The processor is emulated: a /dev/kvm
// that does not work is no rarity inside of other virtual machines, and hangs. So everything takes ten to twenty times as long.
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { ensureKernel, run } from './kernel.mjs'

/** What has to be there before the files of this machine are; the rest is loaded from them. */
const BOOT_MODULES = ['virtio_pci', '9pnet_virtio', '9p', 'overlay']
const MEMORY_MB = 2048
const PROCESSORS = 2

/**
 * @param script For /bin/sh, as root, in a root file system of which /run is empty.
 * @param minutes After these the machine is switched off, and the status is 124.
 * @returns The script's exit status; the machine's console goes to standard output
 */
export async function runInMachine(script, minutes) {
  const interrupted = interruption()
  const kernel = ensureKernel()
  const folder = mkdtempSync(resolve('build/vm/run-'))
  try {
    const initrd = join(folder, 'initrd')
    writeFileSync(initrd, initialFiles(folder, kernel, script))
    return await boot({ kernel, initrd, minutes, interrupted })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Whoever ends this program finds it cleaned up behind itself. @returns What a shell would call the signal's status */
function interruption() {
  return new Promise((resolve) => {
    for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.once(signal, () => resolve(128 + constants.signals[signal]))
  })
}

/** @returns A cpio archive: busybox, the modules to reach the files of this machine, and the script. */
function initialFiles(folder, { release, modules, busybox }, script) {
  const root = join(folder, 'root')
  for (const name of ['bin', 'dev', 'proc', 'sys']) mkdirSync(join(root, name), { recursive: true })
  cpSync(busybox, join(root, 'bin/busybox'))
  writeFileSync(join(root, 'init'), readFileSync('scripts/vm/init.sh'), { mode: 0o755 })
  writeFileSync(join(root, 'settings'), `MODULES='${modules}'\n`)
  writeFileSync(join(root, 'job'), script)
  const source = join(modules, release)
  const target = join(root, 'lib/modules', release)
  mkdirSync(target, { recursive: true })
  for (const name of readdirSync(source)) if (name.startsWith('modules.')) cpSync(join(source, name), join(target, name))
  for (const path of bootModules(source)) {
    mkdirSync(dirname(join(target, path)), { recursive: true })
    cpSync(join(source, path), join(target, path))
  }
  const paths = readdirSync(root, { recursive: true, encoding: 'utf8' })
  return run(busybox, ['cpio', '-o', '-H', 'newc'], { cwd: root, input: paths.join('\n') })
}

/** @returns Paths of modules with all that they need, by the lines `path: path …` of modules.dep. */
function bootModules(folder) {
  const lines = readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n')
  const wanted = lines.filter((line) => BOOT_MODULES.some((name) => line.split(':')[0].includes(`/${name}.ko`)))
  return new Set(wanted.flatMap((line) => line.split(/:? /)).map((path) => path.replace(/:$/, '')))
}

function boot({ kernel, initrd, minutes, interrupted }) {
  const args = [
    ...['-m', String(MEMORY_MB), '-smp', String(PROCESSORS), '-accel', 'tcg,thread=multi', '-cpu', 'max'],
    ...['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-nic', 'none', '-no-reboot'],
    ...['-kernel', kernel.image, '-initrd', initrd, '-append', 'console=ttyS0 quiet panic=-1'],
    ...['-fsdev', 'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap', '-device', 'virtio-9p-pci,fsdev=root,mount_tag=root'],
  ]
  // The signal at the parent's death: not even a killed run leaves a machine.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let status
  const end = (code) => {
    status = code
    child.kill('SIGKILL')
  }
  const limit = setTimeout(() => {
    console.error(`The virtual machine did not end within ${minutes} minutes`)
    end(124)
  }, minutes * 60_000)
  interrupted.then(end)
  createInterface({ input: child.stdout }).on('line', (line) => {
    const told = /^tsnet-vm: status (\d+)\r?$/.exec(line)?.[1]
    if (told === undefined) console.log(line.replace(/\r$/, ''))
    else status ??= Number(told)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => {
      clearTimeout(limit)
      if (status === undefined) console.error('The virtual machine ended without a result')
      resolve(status ?? 1)
    })
  })
}

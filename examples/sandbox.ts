// Runs a command with a network of its own, and a port of it published:
//   node sandbox.js 8080:80 busybox httpd -f -p 80
import { spawn } from 'node:child_process'
import { attach, detach, TsnetError } from 'tsnet'

const [publish = '', ...command] = process.argv.slice(2)
// The shell waits in its new namespace until the network is there.
const child = spawn('unshare', ['--net', 'sh', '-c', 'echo; read -r _; exec "$@" </dev/null', 'sh', ...command], {
  stdio: ['pipe', 'pipe', 'inherit'],
})
const containerID = `sandbox-${child.pid}`

child.stdout.once('data', () => {
  try {
    const { addresses, ports } = attach({ netns: `/proc/${child.pid}/ns/net`, containerID, publish: [publish] })
    console.log(`${addresses.map(({ address }) => address).join(' ')} published as ${ports.map(({ hostPort }) => hostPort).join(' ')}`)
    child.stdin.end('\n')
    child.stdout.pipe(process.stdout)
  } catch (error) {
    console.error(error instanceof TsnetError ? `${error.code}: ${error.message}` : error)
    process.exitCode = 1
    child.kill()
  }
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
child.once('exit', () => detach({ containerID }))

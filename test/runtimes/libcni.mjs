/** libcni by itself, built from Debian's source: no runtime calls CHECK. */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { assert, assertNothingLeft, assertPublished, BIN, check, flushRules, run, skip, tryRun } from './check.mjs'
import { serve } from './image.mjs'

const LIBRARY = '/usr/share/gocode/src/github.com/containernetworking/cni/libcni'
const SOURCE = join(dirname(fileURLToPath(import.meta.url)), 'libcni.go')
const PROGRAM = '/run/libcni'

export async function libcni() {
  if (!existsSync(LIBRARY)) return skip('libcni', 'not installed: golang-github-appc-cni-dev')
  const built = tryRun(['go', 'build', '-o', PROGRAM, SOURCE], {
    env: { GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOCACHE: '/run/go', GOFLAGS: '', CGO_ENABLED: '0' },
    seconds: 60,
  })
  if (built.status !== 0) return skip('libcni', `it cannot be built: ${built.stderr.trim()}`)
  console.log(`  libcni ${run(['dpkg-query', '-W', '-f', '$' + '{Version}', 'golang-github-appc-cni-dev'])}`)
  const env = {
    CNI_PATH: BIN,
    NETCONFPATH: '/etc/cni/net.d',
    CAP_ARGS: JSON.stringify({ portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }),
  }
  const tool = (command, network = 'web') => tryRun([PROGRAM, command, network, '/run/netns/tool'], { env })
  const mustTool = (command) => {
    const { status, stdout, stderr } = tool(command)
    assert(status === 0, `libcni ${command}: status ${status}\n${stdout}${stderr}`)
  }

  run(['ip', 'netns', 'add', 'tool'])
  await check('add: the port answers', async () => {
    mustTool('add')
    const server = serve('tool')
    await assertPublished(8080, 'tool').finally(() => server.kill('SIGKILL'))
  })
  await check('check: succeeds, and fails as soon as the rules are missing', () => {
    mustTool('check')
    flushRules()
    assert(tool('check').status !== 0, 'CHECK did not see that the rules are gone')
  })
  await check('del, twice: nothing is left', () => {
    mustTool('del')
    mustTool('del')
    assertNothingLeft()
  })
  await check('del after the namespace is gone: nothing is left', () => {
    mustTool('add')
    run(['ip', 'netns', 'delete', 'tool'])
    mustTool('del')
    assertNothingLeft()
  })
}

// Runs integration tests on Debian's stock kernel, in a virtual machine: those whose names contain one of the words, or those that
// this machine's kernel may have to skip. The tests are bundled before, as for scripts/test.mjs.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInMachine } from './vm/machine.mjs'

const MINUTES = 20
const FOLDER = 'test/netns'
/** Asks for a feature of the kernel, or names one that a comparison needs. */
const MAY_SKIP = /from '\.\/kernel-feature\.ts'|^\s+needs: /m

const words = process.argv.slice(2)
const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`
const command = [process.execPath, 'scripts/test.mjs', 'netns', ...(words.length > 0 ? words : filesThatMaySkip())]
const status = await runInMachine(
  `export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TSNET_TEST_FULL_KERNEL=1${process.stdout.isTTY ? '' : ' NO_COLOR=1'}
cd ${quote(process.cwd())}
exec ${command.map(quote).join(' ')}
`,
  MINUTES,
)
process.exitCode = status

function filesThatMaySkip() {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith('.test.ts') && MAY_SKIP.test(readFileSync(join(FOLDER, name), 'utf8')))
    .map((name) => `--${name.replace(/\.ts$/, '')}`)
}

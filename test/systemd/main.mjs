/** The checks of the units, one after the other; see run.sh for where this runs. */
import { check, conclude, run, section } from '../runtimes/check.mjs'
import { agent } from './agent.mjs'
import { dhcp } from './dhcp.mjs'
import { repair } from './repair.mjs'

section('boot')
await check('no unit fails', () => {
  const failed = run(['systemctl', '--failed', '--no-legend', '--plain'])
  if (failed !== '') throw new Error(failed)
})
section('tsnet-agent')
await agent()
section('tsnet-dhcp')
await dhcp()
section('tsnet-repair')
await repair()
process.exit(conclude())

/** How CHECK says what is not as it should be. */
import { CNI_CODE, TsnetError } from '../error.ts'

const HINT = 'Delete the attachment and add it again'

/**
 * @param what Is not as it should be, as a sentence.
 * @param problems In words; none is no failure.
 * @throws TsnetError TSNET_CHECK, CNI code 104, with all of them
 */
export function refuseProblems(what: string, problems: readonly string[]): void {
  if (problems.length > 0) throw new TsnetError('TSNET_CHECK', `${what}: ${problems.join('; ')}`, { cniCode: CNI_CODE.checkFailed, hint: HINT })
}

/** The same for rules of a firewall, too long for a message. @throws TsnetError TSNET_CHECK, CNI code 104 */
export function refuseMissingRules(what: string, missing: readonly string[]): void {
  if (missing.length === 0) return
  throw new TsnetError('TSNET_CHECK', `${what}: ${missing.length} rules are missing`, {
    cniCode: CNI_CODE.checkFailed,
    details: missing.join('; '),
    hint: HINT,
  })
}

/** SELinux: under which context programs are run. @see man 5 proc_pid_attr, man 3 setexeccon */
import { readFileSync, writeFileSync } from 'node:fs'
import { CNI_CODE, TsnetError } from '../error.ts'

const ATTRIBUTE = '/proc/thread-self/attr/exec'

/**
 * Runs `fn`, in which programs that this thread starts get another security context.
 * @throws TsnetError TSNET_SELINUX, CNI code 50, when the kernel does not take the context
 */
export function withExecContext<T>(context: string, fn: () => T): T {
  try {
    writeFileSync(ATTRIBUTE, context)
  } catch (cause) {
    throw new TsnetError('TSNET_SELINUX', 'Cannot use the SELinux context: the kernel does not take it', {
      cniCode: CNI_CODE.notAvailable,
      hint: isEnabled() ? 'See whether the policy has it, and lets this program change to it' : 'SELinux is not enabled: leave "selinuxContext" away',
      cause,
    })
  }
  try {
    return fn()
  } finally {
    writeFileSync(ATTRIBUTE, '\n')
  }
}

/** SELinux, when it is there, names the context of every process. */
function isEnabled(): boolean {
  try {
    return readFileSync('/proc/thread-self/attr/current', 'utf8').split(':').length >= 3
  } catch {
    return false
  }
}

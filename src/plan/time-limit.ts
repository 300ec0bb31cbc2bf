/** What TSNET_TIMEOUT says. */
import { CNI_CODE, TsnetError } from '../error.ts'

const DEFAULT_SECONDS = 30
/** A runtime has given up long before. */
const MOST_SECONDS = 3600

/**
 * @param text Seconds, fractions allowed; undefined or empty for 30.
 * @returns How long a call may take before it takes back what it did, milliseconds
 * @throws TsnetError with CNI code 4 for anything else
 */
export function parseTimeLimit(text: string | undefined): number {
  if (text === undefined || text === '') return DEFAULT_SECONDS * 1000
  const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : 0
  if (seconds > 0 && seconds <= MOST_SECONDS) return seconds * 1000
  throw new TsnetError('TSNET_ENVIRONMENT', `Cannot use TSNET_TIMEOUT ${JSON.stringify(text)}: it is no number of seconds up to ${MOST_SECONDS}`, {
    cniCode: CNI_CODE.invalidEnvironment,
  })
}

import { TsnetError } from '../error.ts'

/** @returns The refusal of what a person typed. @param hint What to type instead, one sentence without a period. */
export function usageError(message: string, hint: string): TsnetError {
  return new TsnetError('TSNET_USAGE', message, { cniCode: 4, hint })
}

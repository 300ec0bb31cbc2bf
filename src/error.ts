/** Error codes of the CNI specification, and tsnet's own from 100 on. @see CNI spec 1.1.0, "Error" */
export const CNI_CODE = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  invalidNetns: 8,
  tryAgain: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
  interfaceTaken: 101,
  addressTaken: 102,
  hostPortTaken: 103,
  checkFailed: 104,
  internal: 999,
} as const

export interface TsnetErrorOptions {
  /** What a CNI runtime receives as `code`; 999 when the failure has no code of its own. */
  readonly cniCode?: number
  /** Extra facts for the CNI error object's `details`. */
  readonly details?: string
  /** What the person can do about it, one sentence. */
  readonly hint?: string
  readonly cause?: unknown
}

/** The base of every error that tsnet raises on purpose: a stable code, a sentence for people, a code for runtimes. */
export class TsnetError extends Error {
  readonly code: string
  readonly cniCode: number
  readonly details: string | undefined
  readonly hint: string | undefined

  /** @param code `TSNET_…`, stable across releases. @param message A sentence without a period, the object named. */
  constructor(code: string, message: string, options: TsnetErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = code
    this.cniCode = options.cniCode ?? CNI_CODE.internal
    this.details = options.details
    this.hint = options.hint
  }
}

/** A system call or netlink request that the kernel refused. */
export class KernelError extends TsnetError {
  readonly operation: string
  readonly errno: number
  readonly errnoName: string
  /** The kernel's extended ack text, when it sent one. */
  readonly extendedAck: string | undefined

  constructor(operation: string, errno: number, names: { readonly name: string; readonly text: string; readonly extendedAck?: string | undefined }) {
    const ack = names.extendedAck === undefined ? '' : `, ${names.extendedAck}`
    super('TSNET_KERNEL', `Cannot ${operation}: ${names.text} (${names.name}${ack})`)
    this.operation = operation
    this.errno = errno
    this.errnoName = names.name
    this.extendedAck = names.extendedAck
  }
}

/** @returns Whether `error` is the kernel's refusal with one of these errno names, whether it came from libc, netlink or node:fs. */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  if (error instanceof KernelError) return names.includes(error.errnoName)
  return error instanceof Error && 'syscall' in error && 'code' in error && names.includes(String(error.code))
}

/** @returns Whether it was done; false when it is refused with one of these errno names, as what is there, or gone, already. @throws Whatever else it throws */
export function unlessErrno(names: readonly string[], act: () => void): boolean {
  try {
    act()
    return true
  } catch (error) {
    if (isErrno(error, ...names)) return false
    throw error
  }
}

/** Several failures of one clean-up that went on to its end. */
export class ErrorList extends TsnetError {
  readonly errors: readonly unknown[]

  constructor(message: string, errors: readonly unknown[]) {
    super('TSNET_SEVERAL', `${message}: ${errors.map(describe).join('; ')}`, { cause: errors[0] })
    this.errors = errors
  }
}

/** @returns The message of an error and of its causes, each once, joined by a colon. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof ErrorList || error.cause === undefined) return error.message
  const cause = describe(error.cause)
  return error.message.includes(cause) ? error.message : `${error.message}: ${cause}`
}

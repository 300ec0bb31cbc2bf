/** One call of the protocol, in steps that every plugin of TypeScript shares: the program's own, and those that others write with the library. */
import { errorObject } from './error-object.ts'
import type { JsonObject } from './json.ts'
import type { Environment, RawConfig } from './request.ts'

/** What a plugin is asked. */
export interface CniRequest {
  readonly environment: Environment
  readonly config: RawConfig
  /** The configuration as it was sent, for a plugin that this one delegates to. */
  readonly input: string
}

/** The verbs of a plugin over a request; each throws when it failed, and all but ADD answer nothing. */
export interface Verbs<Request, Added, Done> {
  add(request: Request): Added
  del(request: Request): Done
  check(request: Request): Done
  gc(request: Request): Done
  status(request: Request): Done
}

/** What the program prints, and how it ends. */
export interface Answer {
  /** Exit status. */
  readonly status: number
  /** One JSON document, or nothing. */
  readonly output: string
  /** What failed. */
  readonly error?: unknown
}

/**
 * Calls the verb that the request's command names. VERSION is none.
 * @returns What the verb returns, which means something for ADD only.
 */
export function dispatch<Request extends CniRequest, Added, Done>(verbs: Verbs<Request, Added, Done>, request: Request): Added | Done | undefined {
  switch (request.environment.command) {
    case 'ADD':
      return verbs.add(request)
    case 'DEL':
      return verbs.del(request)
    case 'CHECK':
      return verbs.check(request)
    case 'GC':
      return verbs.gc(request)
    case 'STATUS':
      return verbs.status(request)
    case 'VERSION':
      return undefined
  }
}

/** @param document What ADD answers; absent for the other commands. */
export function success(document: JsonObject | undefined): Answer {
  return { status: 0, output: document === undefined ? '' : JSON.stringify(document, undefined, 4) }
}

export function failure(error: unknown): Answer {
  return { status: 1, output: JSON.stringify(errorObject(error), undefined, 4), error }
}

/** @param document What VERSION answers. */
export function versionAnswer(document: object): Answer {
  return { status: 0, output: `${JSON.stringify(document)}\n` }
}

/** The CNI plugin of tsnet's own types. */
import { findOwnPlugin } from '../plugins/registry.ts'
import { runOneShot } from './one-shot.ts'

runOneShot(findOwnPlugin)

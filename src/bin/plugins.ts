/** The CNI plugin of every type. */
import { findAnyPlugin } from '../plugins/reference.ts'
import { runOneShot } from './one-shot.ts'

runOneShot(findAnyPlugin)

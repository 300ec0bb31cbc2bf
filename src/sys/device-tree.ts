/** Devices as /sys shows them: which interfaces and which driver they have. @see Documentation/filesystems/sysfs.rst */
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { basename, join, normalize } from 'node:path'
import { isErrno } from '../error.ts'

const DEVICES = '/sys/devices/'
const BUSES = { pci: '/sys/bus/pci/devices', auxiliary: '/sys/bus/auxiliary/devices' } as const

export type Bus = keyof typeof BUSES

/** @param id What the bus calls the device, such as `0000:00:1f.6`. @returns Its folder, or undefined when the bus has none of that name */
export function deviceOnBus(bus: Bus, id: string): string | undefined {
  const path = join(BUSES[bus], id)
  return /^[\w:.-]+$/.test(id) && !/^\.+$/.test(id) && existsSync(path) ? path : undefined
}

/** @param path As a caller says it. @returns The path without detours, or undefined when it leads out of /sys/devices/ */
export function deviceOfPath(path: string): string | undefined {
  const direct = normalize(path)
  return direct.startsWith(DEVICES) && !direct.includes('\0') ? direct : undefined
}

/** @param device A folder of /sys. @returns The names of its interfaces, those of a virtio device below it included */
export function interfacesOfDevice(device: string): readonly string[] {
  const own = namesIn(join(device, 'net'))
  if (own.length > 0) return own
  const below = namesIn(device).filter((name) => name.startsWith('virtio'))
  return below.flatMap((name) => namesIn(join(device, name, 'net')))
}

/** @param device A folder of /sys. @returns The name of its driver, or undefined when it has none */
export function driverOfDevice(device: string): string | undefined {
  try {
    return basename(readlinkSync(join(device, 'driver')))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EINVAL')) return undefined
    throw error
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).sort()
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}

/** Which of the host's devices a configuration of type `host-device` means. */
import { invalidField, optionalString, quote } from '../cni/json.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { deviceOfPath, deviceOnBus, driverOfDevice } from '../sys/device-tree.ts'
import { parseLinkName } from './device-config.ts'
import type { PluginRequest } from './plugin.ts'

/** What leaves a network card to a program (DPDK), so that it has no interface. */
const USERSPACE_DRIVERS = ['vfio-pci', 'uio_pci_generic', 'igb_uio']

/** `words` continue "there is none". */
export type DeviceChoice =
  | { readonly by: 'name'; readonly name: string; readonly words: string }
  | { readonly by: 'mac'; readonly mac: string; readonly words: string }
  | { readonly by: 'device'; readonly path: string; readonly words: string }

export interface HostDeviceConfig {
  readonly choice: DeviceChoice
  readonly usesUserspaceDriver: boolean
  /** The address on the PCI bus, where the configuration says one. */
  readonly pciID?: string
}

/** @throws TsnetError TSNET_CONFIG, CNI code 7; TSNET_NO_DEVICE, CNI code 7, when the bus has no such device */
export function parseHostDevice(request: PluginRequest): HostDeviceConfig {
  const { raw, runtimeConfig } = request.config
  const deviceID = optionalString(runtimeConfig, 'deviceID', 'runtimeConfig.') ?? ''
  const auxiliary = deviceID === '' || deviceOnBus('pci', deviceID) !== undefined ? undefined : deviceOnBus('auxiliary', deviceID)
  const pciID = deviceID || (optionalString(raw, 'pciBusID') ?? '')
  if (auxiliary !== undefined) return { choice: onBus(auxiliary, deviceID), usesUserspaceDriver: false }
  const path = pciID === '' ? undefined : (deviceOnBus('pci', pciID) ?? noDevice(pciID))
  const card = path === undefined ? undefined : onBus(path, pciID)
  const choice = deviceID !== '' && card !== undefined ? card : (namedChoice(request) ?? card)
  if (choice === undefined) throw invalid('specify either "device", "hwaddr", "kernelpath" or "pciBusID"')
  const driver = path === undefined ? undefined : driverOfDevice(path)
  return { choice, usesUserspaceDriver: driver !== undefined && USERSPACE_DRIVERS.includes(driver), ...(path !== undefined && { pciID }) }
}

function namedChoice(request: PluginRequest): DeviceChoice | undefined {
  const { raw } = request.config
  const name = parseLinkName(request, 'device')
  if (name !== '') return { by: 'name', name, words: `called ${quote(name)}` }
  const mac = optionalString(raw, 'hwaddr') ?? ''
  if (mac !== '') return { by: 'mac', mac: parseHardwareAddress(mac), words: `with the MAC address ${quote(mac)}` }
  const path = optionalString(raw, 'kernelpath') ?? ''
  if (path === '') return undefined
  const device = deviceOfPath(path)
  if (device === undefined) throw invalid(`kernel device path ${quote(path)} must be absolute and begin with /sys/devices/`)
  return { by: 'device', path: device, words: `of the device ${quote(path)}` }
}

function onBus(path: string, id: string): DeviceChoice {
  return { by: 'device', path, words: `of the device ${quote(id)}` }
}

/** InfiniBand's have 20 octets. @see Go net.ParseMAC */
function parseHardwareAddress(text: string): string {
  const digits = text.toLowerCase().replaceAll(/[:.-]/g, '')
  if (!/^([0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{40})$/.test(digits)) throw invalidField('hwaddr', text, 'a hardware address')
  return (digits.match(/../g) ?? []).join(':')
}

function noDevice(id: string): never {
  throw new TsnetError('TSNET_NO_DEVICE', `Cannot find the device ${quote(id)}: neither the PCI nor the auxiliary bus has it`, {
    cniCode: CNI_CODE.invalidConfig,
  })
}

function invalid(message: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', message, { cniCode: CNI_CODE.invalidConfig })
}

//! Calls every accessor of the SMBIOS decoder; the property tests and the fuzz target share it.

use hwdetect::smbios::Tables;

/// Whatever the bytes were, all of these return.
pub(crate) fn read_all(tables: &Tables) {
    for version in [None, Some((2, 5)), Some((3, 6))] {
        if let Some(system) = tables.system(version) {
            let _ = (system.vendor(), system.product(), system.version(), system.serial());
            let _ = (system.uuid(), system.sku(), system.family());
        }
    }
    if let Some(bios) = tables.bios() {
        let _ = (bios.vendor(), bios.version(), bios.date(), bios.release());
    }
    if let Some(board) = tables.board() {
        let _ = (board.vendor(), board.product(), board.version(), board.serial(), board.asset_tag(), board.location());
    }
    if let Some(chassis) = tables.chassis() {
        let _ = (chassis.vendor(), chassis.type_code(), chassis.version(), chassis.serial());
        let _ = (chassis.asset_tag(), chassis.height_units(), chassis.sku());
    }
    if let Some(ipmi) = tables.ipmi() {
        let _ = (ipmi.interface(), ipmi.revision());
    }
    for array in tables.memory_arrays() {
        let _ = (array.is_system_memory(), array.error_correction(), array.max_capacity_bytes(), array.slots());
    }
    for device in tables.memory_devices() {
        let _ = (device.size_bytes(), device.speed_mts(), device.configured_speed_mts(), device.ranks());
        let _ = (device.memory_type(), device.form_factor(), device.total_width_bits(), device.data_width_bits());
        let _ = (device.locator(), device.bank_locator(), device.manufacturer(), device.serial());
        let _ = (device.asset_tag(), device.part_number(), device.array_handle());
    }
    let _ = tables.oem_strings();
}

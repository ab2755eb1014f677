// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The bus in the driver model: devices named by UUID, drivers matched by class UUID, and the files
 * that tools know from Azure: /sys/bus/vmbus/devices/UUID/{class_id,device_id,...}, new_id.
 */
#include <linux/dma-mapping.h>

#include "lab.h"

/*
 * uio_hv_generic maps two of the connection's pages for its user and takes its mutex. The structure
 * is private to Linux; the build compares these offsets with what the driver's code refers to.
 */
#define CONNECTION_INT_PAGE 0x30
#define CONNECTION_MONITOR_PAGE 0x50 /* the second, which guests write */
#define CONNECTION_MUTEX 0x80

struct vmbus_connection {
	u8 unused[CONNECTION_INT_PAGE];
	void *int_page;
	u8 unused_too[CONNECTION_MONITOR_PAGE - CONNECTION_INT_PAGE - sizeof(void *)];
	void *monitor_page;
	u8 unused_as_well[CONNECTION_MUTEX - CONNECTION_MONITOR_PAGE - sizeof(void *)];
	struct mutex channel_mutex;
	u8 rest[1024];
};

extern struct vmbus_connection vmbus_connection;
struct vmbus_connection vmbus_connection;
EXPORT_SYMBOL_GPL(vmbus_connection);

extern const struct vmbus_device vmbus_devs[];
const struct vmbus_device vmbus_devs[HV_UNKNOWN + 1] = {
	[HV_NIC] = { .dev_type = HV_NIC, HV_NIC_GUID, .perf_device = true },
};
EXPORT_SYMBOL_GPL(vmbus_devs);

static struct device *root;

/* An entry of new_id. */
struct dynamic_id {
	struct list_head list;
	struct hv_vmbus_device_id id;
};

/* What a driver gets that was asked for by driver_override and knows no such device. */
static const struct hv_vmbus_device_id any_id;

static const struct hv_vmbus_device_id *match(struct hv_driver *driver, struct hv_device *device)
{
	const struct hv_vmbus_device_id *id = driver->id_table, *found = NULL;
	int wanted = device_match_driver_override(&device->device, &driver->driver);
	struct dynamic_id *dynamic;

	if (!wanted) /* another driver is named; below 0: none is */
		return NULL;
	spin_lock(&driver->dynids.lock);
	list_for_each_entry(dynamic, &driver->dynids.list, list)
		if (guid_equal(&dynamic->id.guid, &device->dev_type))
			found = &dynamic->id;
	spin_unlock(&driver->dynids.lock);
	for (; !found && id && !guid_is_null(&id->guid); id++)
		if (guid_equal(&id->guid, &device->dev_type))
			found = id;
	return !found && wanted > 0 ? &any_id : found;
}

static int bus_match(struct device *device, const struct device_driver *driver)
{
	return !!match(drv_to_hv_drv((struct device_driver *)driver), device_to_hv_device(device));
}

static int bus_probe(struct device *device)
{
	struct hv_driver *driver = drv_to_hv_drv(device->driver);
	struct hv_device *hv = device_to_hv_device(device);
	const struct hv_vmbus_device_id *id = match(driver, hv);

	return driver->probe && id ? driver->probe(hv, id) : -ENODEV;
}

/*
 * uio_hv_generic frees the rings of a channel that its user still has open, and leaves it open: so
 * the host looks at them no more before it goes, and the channel is closed here. After a rescind
 * that is no fault of the driver's.
 */
static void bus_remove(struct device *device)
{
	struct nic *nic = container_of(device, struct nic, device.device);
	struct hv_driver *driver = device->driver ? drv_to_hv_drv(device->driver) : NULL;

	if (nic->polled)
		host_leave(nic);
	if (driver && driver->remove)
		driver->remove(&nic->device);
	nic->channel.chn_rescind_callback = NULL; /* uio_hv_generic may be unloaded next */
	nic->channel.sc_creation_callback = NULL;
	if (nic->channel.state != CHANNEL_OPEN_STATE || !list_empty(&nic->channel.sc_list)) {
		if (!nic->channel.rescind)
			violation(nic, "open-after-remove", "%s left its channel open",
				  device->driver->name);
		vmbus_close(&nic->channel);
	}
	mutex_lock(&nic->lock);
	if (!list_empty(&nic->gpadls))
		violation(nic, "gpadl-leak", "%s left memory with the host", device->driver->name);
	mutex_unlock(&nic->lock);
}

static int bus_uevent(const struct device *device, struct kobj_uevent_env *env)
{
	return add_uevent_var(env, "MODALIAS=vmbus:%*phN", 16,
			      &device_to_hv_device(device)->dev_type);
}

/* ---- Files of a device */

#define FILE_OF(name, format, ...)                                                                \
	static ssize_t name##_show(struct device *device, struct device_attribute *attribute,     \
				   char *text)                                                    \
	{                                                                                         \
		struct nic *nic = container_of(device, struct nic, device.device);                \
                                                                                                  \
		return sysfs_emit(text, format "\n", ##__VA_ARGS__);                              \
	}                                                                                         \
	static DEVICE_ATTR_RO(name)

FILE_OF(id, "%d", nic->channel.offermsg.child_relid);
FILE_OF(state, "%d", nic->channel.state);
FILE_OF(monitor_id, "%d", nic->channel.offermsg.monitorid);
FILE_OF(class_id, "{%pUl}", &nic->channel.offermsg.offer.if_type);
FILE_OF(device_id, "{%pUl}", &nic->channel.offermsg.offer.if_instance);
FILE_OF(modalias, "vmbus:%*phN", 16, &nic->device.dev_type);
FILE_OF(vendor, "0x%x", nic->device.vendor_id);
FILE_OF(device, "0x%x", nic->device.device_id);
FILE_OF(channel_vp_mapping, "%u:%u", nic->channel.offermsg.child_relid, nic->channel.target_cpu);

static struct attribute *device_attrs[] = {
	&dev_attr_id.attr,
	&dev_attr_state.attr,
	&dev_attr_monitor_id.attr,
	&dev_attr_class_id.attr,
	&dev_attr_device_id.attr,
	&dev_attr_modalias.attr,
	&dev_attr_vendor.attr,
	&dev_attr_device.attr,
	&dev_attr_channel_vp_mapping.attr,
	NULL,
};
ATTRIBUTE_GROUPS(device);

/* ---- Files of a driver */

/* With the list's lock held. */
static bool has_dynamic(struct hv_driver *driver, const guid_t *guid)
{
	struct dynamic_id *dynamic;

	list_for_each_entry(dynamic, &driver->dynids.list, list)
		if (guid_equal(&dynamic->id.guid, guid))
			return true;
	return false;
}

static ssize_t new_id_store(struct device_driver *driver, const char *text, size_t size)
{
	struct hv_driver *hv = drv_to_hv_drv(driver);
	struct dynamic_id *dynamic;
	char word[UUID_STRING_LEN + 1];
	bool known;
	int error;

	strscpy(word, text, sizeof(word));
	dynamic = kzalloc(sizeof(*dynamic), GFP_KERNEL);
	if (!dynamic)
		return -ENOMEM;
	if (guid_parse(word, &dynamic->id.guid)) {
		kfree(dynamic);
		return -EINVAL;
	}
	spin_lock(&hv->dynids.lock);
	known = has_dynamic(hv, &dynamic->id.guid);
	if (!known)
		list_add_tail(&dynamic->list, &hv->dynids.list);
	spin_unlock(&hv->dynids.lock);
	if (known) {
		kfree(dynamic);
		return -EEXIST;
	}
	error = driver_attach(driver);
	return error ? error : size;
}
static DRIVER_ATTR_WO(new_id);

static ssize_t remove_id_store(struct device_driver *driver, const char *text, size_t size)
{
	struct hv_driver *hv = drv_to_hv_drv(driver);
	struct dynamic_id *dynamic, *next;
	char word[UUID_STRING_LEN + 1];
	ssize_t done = -ENODEV;
	guid_t guid;

	strscpy(word, text, sizeof(word));
	if (guid_parse(word, &guid))
		return -EINVAL;
	spin_lock(&hv->dynids.lock);
	list_for_each_entry_safe(dynamic, next, &hv->dynids.list, list) {
		if (guid_equal(&dynamic->id.guid, &guid)) {
			list_del(&dynamic->list);
			kfree(dynamic);
			done = size;
		}
	}
	spin_unlock(&hv->dynids.lock);
	return done;
}
static DRIVER_ATTR_WO(remove_id);

static struct attribute *driver_attrs[] = {
	&driver_attr_new_id.attr,
	&driver_attr_remove_id.attr,
	NULL,
};
ATTRIBUTE_GROUPS(driver);

static const struct bus_type vmbus = {
	.name = "vmbus",
	.match = bus_match,
	.probe = bus_probe,
	.remove = bus_remove,
	.uevent = bus_uevent,
	.dev_groups = device_groups,
	.drv_groups = driver_groups,
	.driver_override = true, /* the file of that name, for driverctl */
};

/* ---- Drivers */

int __vmbus_driver_register(struct hv_driver *driver, struct module *owner, const char *name)
{
	driver->driver.name = driver->name;
	driver->driver.owner = owner;
	driver->driver.mod_name = name;
	driver->driver.bus = &vmbus;
	spin_lock_init(&driver->dynids.lock);
	INIT_LIST_HEAD(&driver->dynids.list);
	return driver_register(&driver->driver);
}
EXPORT_SYMBOL_GPL(__vmbus_driver_register);

void vmbus_driver_unregister(struct hv_driver *driver)
{
	struct dynamic_id *dynamic, *next;

	driver_unregister(&driver->driver);
	list_for_each_entry_safe(dynamic, next, &driver->dynids.list, list)
		kfree(dynamic);
}
EXPORT_SYMBOL_GPL(vmbus_driver_unregister);

/* The file of a sub-channel's ring; there are none, and the first channel's is in /dev/uioN. */
int hv_create_ring_sysfs(struct vmbus_channel *channel, void *map);
int hv_create_ring_sysfs(struct vmbus_channel *channel, void *map)
{
	channel->ring_sysfs_visible = true;
	return 0;
}
EXPORT_SYMBOL_GPL(hv_create_ring_sysfs);

int hv_remove_ring_sysfs(struct vmbus_channel *channel);
int hv_remove_ring_sysfs(struct vmbus_channel *channel)
{
	channel->ring_sysfs_visible = false;
	return 0;
}
EXPORT_SYMBOL_GPL(hv_remove_ring_sysfs);

/* ---- Devices */

static void device_release(struct device *device)
{
	nic_put(container_of(device, struct nic, device.device));
}

/* Plug in what the host offers; a driver that is there probes before this returns. */
int bus_add(struct nic *nic)
{
	struct hv_device *hv = &nic->device;
	int error;

	guid_copy(&hv->dev_type, &nic->channel.offermsg.offer.if_type);
	guid_copy(&hv->dev_instance, &nic->channel.offermsg.offer.if_instance);
	hv->vendor_id = 0x1414;
	hv->channel = &nic->channel;
	nic->channel.device_obj = hv;
	hv->device.bus = &vmbus;
	hv->device.parent = root;
	hv->device.release = device_release;
	hv->device.dma_parms = &hv->dma_parms;
	hv->device.dma_mask = &hv->dma_mask;
	hv->dma_mask = DMA_BIT_MASK(64);
	hv->device.coherent_dma_mask = DMA_BIT_MASK(64);
	dev_set_name(&hv->device, "%pUl", &hv->dev_instance);
	error = device_register(&hv->device);
	if (error)
		put_device(&hv->device);
	return error;
}

void vmbus_device_unregister(struct hv_device *device);
void vmbus_device_unregister(struct hv_device *device)
{
	device_unregister(&device->device);
}
EXPORT_SYMBOL_GPL(vmbus_device_unregister);

int bus_init(void)
{
	int error = -ENOMEM;

	BUILD_BUG_ON(offsetof(struct vmbus_connection, monitor_page) != CONNECTION_MONITOR_PAGE);
	BUILD_BUG_ON(offsetof(struct vmbus_connection, channel_mutex) != CONNECTION_MUTEX);
	mutex_init(&vmbus_connection.channel_mutex);
	vmbus_connection.int_page = (void *)get_zeroed_page(GFP_KERNEL);
	vmbus_connection.monitor_page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!vmbus_connection.int_page || !vmbus_connection.monitor_page)
		goto no_pages;
	root = root_device_register("vmbus_lab");
	if (IS_ERR(root)) {
		error = PTR_ERR(root);
		goto no_pages;
	}
	error = bus_register(&vmbus);
	if (error)
		goto no_bus;
	return 0;

no_bus:
	root_device_unregister(root);
no_pages:
	free_page((unsigned long)vmbus_connection.int_page);
	free_page((unsigned long)vmbus_connection.monitor_page);
	return error;
}

void bus_exit(void)
{
	bus_unregister(&vmbus);
	root_device_unregister(root);
	free_page((unsigned long)vmbus_connection.int_page);
	free_page((unsigned long)vmbus_connection.monitor_page);
}

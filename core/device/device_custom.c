/*
 * A device made of functions that the program passed in: requests are carried out by
 * the thread that submits them, one after the other.  What the functions answer counts
 * as the device's answer; a positive number, which is none, is -EIO.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <stdlib.h>

struct custom_device {
	struct device device;
	struct device_functions functions; /* set at open */
};

static const struct device_functions *functions_of(struct device *device)
{
	return &((struct custom_device *)device)->functions;
}

static int answer(int err)
{
	return err > 0 ? -EIO : err;
}

static const char *custom_describe(const struct device *device)
{
	return "functions of the program";
}

static int custom_transfer(struct device *device, struct device_request *request)
{
	const struct device_functions *functions = functions_of(device);

	if (request->op == DEVICE_READ)
		return answer(functions->read(functions->ctx, request->offset, request->data,
		    request->bytes));
	return answer(functions->write(functions->ctx, request->offset, request->data,
	    request->bytes));
}

static int custom_flush(struct device *device)
{
	const struct device_functions *functions = functions_of(device);

	return answer(functions->flush(functions->ctx));
}

static int custom_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	const struct device_functions *functions = functions_of(device);

	if (!functions->discard)
		return -EOPNOTSUPP;
	return answer(functions->discard(functions->ctx, offset, bytes));
}

static void custom_close(struct device *device)
{
	free(device);
}

static const struct device_ops custom_ops = {
    .describe = custom_describe,
    .transfer = custom_transfer,
    .flush = custom_flush,
    .discard = custom_discard,
    .close = custom_close,
};

int device_open_functions(const struct device_functions *functions, struct device **ret)
{
	struct custom_device *custom = calloc(1, sizeof(*custom));

	if (!custom)
		return -ENOMEM;
	device_init(&custom->device, &custom_ops, functions->bytes);
	custom->device.is_read_only = functions->is_read_only;
	custom->functions = *functions;
	*ret = &custom->device;
	return 0;
}

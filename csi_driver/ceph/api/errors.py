"""What a call to Ceph finds that its caller expects: raised where it can happen, and named at each method."""


class ObjectExists(Exception):
    """An exclusive create found the object."""


class ObjectMissing(Exception):
    """The write names an object that does not exist."""


class CompareFailed(Exception):
    """A key does not hold what the write expected."""


class ImageExists(Exception):
    """The image's name is taken. It proves only that somebody began to make it."""


class ImageMissing(Exception):
    """No such image: by name, or by id in the trash."""


class ImageBusy(Exception):
    """A client watches the image, so that it cannot be removed; or another operation on it runs."""


class ImageHasSnapshots(Exception):
    """The image has snapshots, so that it cannot be removed."""


class CannotCompare(Exception):
    """The bindings cannot name the older snap."""


class FlattenStopped(Exception):
    """The flatten was not gone on with; what is copied stays so, and the next one passes over it."""


class ImageKept(Exception):
    """The trash keeps the image for a time that is not over."""

"""The little that Bloomery asks of Glance: which image a name or id means. Ironic fetches the image itself."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from bloomery.deadline import Deadline
from bloomery.errors import AmbiguousName, ImageNotFound, RequestRefused
from bloomery.plain import is_uuid
from bloomery.rest.failures import Kind
from bloomery.rest.pages import every_page
from bloomery.rest.retries import certainly
from bloomery.rest.transport import Transport

PAGE = 200
"""So many images are asked for at a time."""


class GlanceImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image in Glance."""

    id: str
    name: str | None = None
    status: str | None = None
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    visibility: str | None = None
    owner: str | None = None


class _Images(msgspec.Struct, frozen=True):
    images: list[GlanceImage]
    next: str | None = None


def _last_if_more(page: _Images) -> str | None:
    return page.images[-1].id if page.next is not None and page.images else None


class Glance:
    """Glance, as far as Bloomery needs it."""

    def __init__(self, transport: Transport, deadline: Deadline) -> None:
        self.transport = transport
        self.deadline = deadline

    def within(self, deadline: Deadline) -> Glance:
        """The same Glance, for work that has another deadline."""
        return Glance(self.transport, deadline)

    def image(self, name_or_id: str) -> GlanceImage:
        """The active image of that name or id.

        Raises:
            ImageNotFound: there is none, or it is not active.
            AmbiguousName: there are several.
        """
        found = self._by_id(name_or_id) or self._by_name(name_or_id)
        if found.status not in (None, "active"):
            raise ImageNotFound(
                f"image {name_or_id!r} cannot be used", reason=f"Glance says that it is {found.status!r}"
            )
        return found

    def images(self) -> list[GlanceImage]:
        """Every active image, by name."""

        def read(marker: str | None) -> _Images:
            query: dict[str, str | int | list[str]] = {"status": "active", "limit": PAGE}
            if marker is not None:
                query["marker"] = marker
            return certainly(
                "Glance",
                "listing images",
                lambda s: self.transport.request("GET", "/images", query=query, timeout_s=s).decode(_Images),
                deadline=self.deadline,
                kind=Kind.READ,
            )

        pages = every_page(read, _last_if_more, what="Glance gave a list of images")
        return sorted((image for page in pages for image in page.images), key=lambda it: (it.name or "", it.id))

    def _by_id(self, image_id: str) -> GlanceImage | None:
        if not is_uuid(image_id):
            return None
        try:
            return certainly(
                "Glance",
                f"looking for image {image_id}",
                lambda s: self.transport.request("GET", f"/images/{quote(image_id, safe='')}", timeout_s=s).decode(
                    GlanceImage
                ),
                deadline=self.deadline,
                kind=Kind.LOOK_UP,
            )
        except RequestRefused as refusal:
            if refusal.status == 404:
                return None
            raise

    def _by_name(self, name: str) -> GlanceImage:
        images = certainly(
            "Glance",
            f"looking for image {name}",
            lambda s: self.transport.request("GET", "/images", query={"name": name}, timeout_s=s).decode(_Images),
            deadline=self.deadline,
            kind=Kind.LOOK_UP,
        ).images
        if not images:
            raise ImageNotFound(f"there is no image {name!r}", advice="`openstack image list` lists what there is")
        if len(images) > 1:
            ids = ", ".join(sorted(image.id for image in images))
            raise AmbiguousName(f"{len(images)} images are named {name!r}", reason=f"their ids are {ids}")
        return images[0]

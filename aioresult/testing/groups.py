"""The part of the conformance suite that is about saved groups."""

from __future__ import annotations

import pytest

from aioresult import Backend, GroupResult
from aioresult.abc import Store
from aioresult.errors import Unsupported
from aioresult.testing.fixtures import StoreFixtures, fresh_id


class GroupTests(StoreFixtures):
    """Every promise about saved groups. A store without them has to say so."""

    async def test_a_saved_group_is_restored_with_its_members_and_can_be_deleted(self, backend: Backend) -> None:
        members = [backend.AsyncResult(fresh_id()) for _ in range(3)]
        group = backend.GroupResult(fresh_id(), members)
        if type(backend._runtime.store).put_group is Store.put_group:
            with pytest.raises(Unsupported, match="groups"):
                await group.save()
            return
        await group.save()
        await group.save()
        restored = await GroupResult.restore(group.id, backend)
        assert restored is not None
        assert (restored.id, restored.results) == (group.id, group.results)
        await backend.store_result(members[0].id, 1, "SUCCESS")
        assert await restored.completed_count() == 1
        await group.delete()
        assert await backend.restore_group(group.id) is None

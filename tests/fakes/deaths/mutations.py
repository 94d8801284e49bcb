"""Orders that a careless change might make of the right one; each must be caught by the judge (test_deaths.py).

publish_before_verify   the renderer answers before its film is whole (fake_renderer.py has it)
receipt_first           the log is revealed before its film
move_before_record      the inputs are moved before anybody has noted that they will be
forget_interrupted      a start does not take up the jobs that were interrupted
follow_links            links are followed wherever they are put (test_swaps.py)
take_blindly            inputs are taken however they have changed since they settled (test_changed_inputs.py)
never_sync              files are not brought to the disk, only folders are (test_power.py)
"""

import os
import stat


def apply(name, module):
    """Change the module that has just been loaded."""
    changed = {
        "forget_interrupted": "heygemd.store.recovery",
        "never_sync": "heygemd.share.nofollow",
        "take_blindly": "heygemd.share.operations",
        "receipt_first": "heygemd.store.publish",
        "follow_links": "heygemd.share.nofollow",
    }.get(name, "heygemd.store.drops")
    if module.__name__ == changed and f"_{name}" in globals():
        globals()[f"_{name}"](module)


def _receipt_first(publish):
    honest = publish.Publishing._reveal

    async def reveal(self, drop, job):
        final = os.path.join(self._places.outlet(drop, job), job.base)
        await self._show(drop, self._places.part(drop, job, "json"), f"{final}.json")
        return await honest(self, drop, job)

    publish.Publishing._reveal = reveal


def _move_before_record(drops):
    async def claim(self, line, request):
        drop_id = f"20000101-000000-{drops.secrets.token_hex(3)}"
        for move in request.moves:
            target = os.path.join(line.processing, drop_id, move.target)
            await self.shares[line.name].move(os.path.join(line.inbox, move.source), target)
        return await self.take(self.journal.add_drop(drop_id, line.name, request, None))

    drops.DropStore.claim = claim


def _forget_interrupted(recovery):
    def interrupted(store):
        for job in store.journal.jobs_in(recovery.JobState.RUNNING):
            store.journal.set_job(job, recovery.JobState.CANCELLED, reason="It was interrupted.")

    recovery.interrupted = interrupted


def _follow_links(nofollow):
    nofollow.os.O_NOFOLLOW = 0


def _take_blindly(operations):
    operations._differs = lambda *_, **__: False


def _never_sync(nofollow):
    honest = nofollow.os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            honest(fd)

    nofollow.os.fsync = fsync

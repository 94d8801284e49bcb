"""The ``duix`` engine: a Duix.Avatar (HeyGem) container makes the mouths, asked over its HTTP API.

    contract/duix_api.py      request and answer: submit, query; nothing that the container says is trusted
    contract/duix_folder.py   the folder that both sides see
    chunks.py                 long sound, divided at pauses; pure
    task_record.py            which task id is whose, on the disk before the container hears of it
    submission.py             one chunk: submit, poll, collect; what is done when it goes wrong
    film.py                   the whole film: template, chunks, one encode, the original sound, verified like any other

Built from what is published of the API and from what its users report, and tested against a stand-in server that keeps
to both (``tests/fakes/duix.py``).  **It has not met a real container yet.**

The container decodes, paints and encodes whole frames, so ``duix`` does not promise what the other engines do: that
everything outside the mouth is the template's own, bit for bit.  Frames are encoded three times (ours for the container
at a low crf, the container's, the film's).  Which face speaks is the container's choice.

May import: common, contract, pipeline.engines, pipeline.marking, pipeline.media, pipeline.result.
"""

"""What rank 0 writes down, and what happens when it cannot."""

from pathlib import Path

from pretrain.track.events import EventKind, read_events
from pretrain.track.metrics_file import MetricsLog
from pretrain.track.progress import ProgressLines
from pretrain.track.recorder import RunRecorder
from pretrain.track.trackers import Trackers


def test_an_alert_is_an_event_and_a_full_disk_under_the_log_ends_nothing(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("w") as log,
        RunRecorder(
            MetricsLog(tmp_path), Trackers([]), ProgressLines(start_step=0, max_steps=10, stream=log), resumed=False
        ) as recorder,
    ):
        recorder.alert("stalled", "step 3 has not finished")
        log.buffer.raw.close()  # what could not be written is not to be tried again
    (event,) = read_events(tmp_path)
    assert (event.kind, event.values) == (EventKind.alert, {"title": "stalled", "text": "step 3 has not finished"})

"""Children of a process that has launched nothing use threads of their own."""

import os
import signal

import work

from fastcnn.kernels.cpu import threads

assert threads.get_num_threads() == 4
pids = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)
        work.digest()
        assert len(os.listdir("/proc/self/task")) >= 4
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
work.digest()

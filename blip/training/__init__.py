"""The trainer. Read `loop.py` first: one step after another, and all that watches it.

a step        collate.py, accumulation.py, engine.py, one_rank.py, precision.py, switches.py, average.py
what moves    groups.py, optimiser.py, schedule.py
what is told  telemetry.py, norms.py, flops.py, peak.py, memory.py, progress.py, health.py
what is kept  checkpoint.py, of owner.py (which run they are of), fragments.py, tensors.py, random_state.py
what goes bad guard.py (no finite gradient), spikes.py, heartbeat.py, preemption.py, vote.py
ranks         launch/, from one process to many nodes
"""

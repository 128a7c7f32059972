"""The resident solver service: an MPI job that holds systems and answers derivative requests over HTTP.

    mpirun -n P distdiff serve          client = dd.connect("http://127.0.0.1:8765")

One process's way: `client` traces and uploads, `parsing`, `app` and `vectors` take requests apart with what `door` has
for all of them (rank 0, a thread of its own), `jobs` queues them, `service` works them off one turn after another
(rank 0, main thread), `ranks` has all ranks do so together, and `tracers` has functions of modules traced in processes
beside them (`recording`).
`wire` is how numbers travel, `spool` and `modules` what lies on disk, `tokens` who may ask.  `client`, `tokens` and
`wire` want neither MPI nor PETSc, and nothing but the standard library and NumPy.
"""

API = 1
"""Version of the paths, headers and forms; a client and a service of one version understand each other."""

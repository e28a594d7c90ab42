-- An environment module (Lmod): module use /sdf/group/fermi/ground/halfpipe/profiles/s3df; module load halfpipe
help([[HalfPipe: from a downlink of the Fermi Large Area Telescope to event files for Level-1.
Then: halfpipe status. To process a downlink, first change to the checkout: cd $HALFPIPE_ROOT; snakemake dl=230401001]])
whatis("Name: halfpipe")
local root = "/sdf/group/fermi/ground/halfpipe"
setenv("HALFPIPE_ROOT", root)
setenv("SNAKEMAKE_PROFILE", pathJoin(root, "profiles/s3df"))
prepend_path("PATH", pathJoin(root, ".venv/bin"))
-- Slurm's programs; jobs inherit PATH
append_path("PATH", "/opt/slurm/slurm-curr/bin")

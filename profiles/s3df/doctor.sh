#!/usr/bin/env bash
""":" # bash runs the lines up to the closing quotes; Python reads them as a string
# Check whether this host and this account are ready for HalfPipe. The file works alone and can be mailed:
#
#     bash doctor.sh [--config FILE] [--profile FILE] [--no-message]
#
# It needs bash and Python 3.6, installs and writes nothing, and ends within 30 seconds. It prints a line for each
# assumption (good, problem or unknown, what was seen, what to do), and a line of JSON at the end. Send all of it back.
# In a checkout it uses the config and profile beside it; a copy elsewhere uses built-in values of s3df. If there is an
# alarm.command, it sends one test message, except with --no-message. Status 0: ready; 1: not ready; 2: wrong usage.
for python in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11 /usr/libexec/platform-python; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null; then
    exec "$python" -I -B "$0" "$@"
  fi
done
seen='no Python 3.6 or newer is on PATH, so nothing else was checked'
do='log in to another host, or run PYTHON=/path/to/python3 bash doctor.sh'
printf '%-8s %-18s %s\n%27s do: %s\n' problem python-none "$seen" '' "$do"
printf '{"doctor": 1, "ready": false, "findings": [{"verdict": "problem", "code": "python-none", %s}]}\n' \
  "\"seen\": \"$seen\", \"do\": \"$do\""
exit 1
"""

import argparse, datetime, functools, grp, json, os, pwd, re, select, shlex, shutil, signal, socket
import stat, subprocess, sys, time
from collections import namedtuple

SECONDS = 27  # for all probes, which run in parallel, without the start of Python and the last lines
NEEDED = "11", "14"  # Python 3.x, from and below, unless a pyproject.toml beside this file says otherwise
LEAST_SHARE, LEAST_BYTES, LEAST_FILES = 0.01, 20e9, 1e5  # free on a file system; less than both is a problem
DAY = 86400
# Values of config/s3df.yaml, profiles/s3df and config/flight.yaml, for a copy of this file outside of a checkout.
DATA, SDF = "/sdf/data/fermi/ground/ISOC/flight", "/sdf/group/fermi"
BUILT_IN = {
    "config": {
        "paths": {
            "work": DATA + "/HalfPipe", "stage": DATA + "/HalfPipe-stage", "retdef": [DATA + "/Downlinks"],
            "map": {"/nfs/farm/g/glast": SDF + "/n",
                    "/afs/slac/g/glast": SDF + "/a", "/afs/slac.stanford.edu/g/glast": SDF + "/a"},
        },
        "level0": {"fetch": "python scripts/xrootd_hour.py root://glast-rdr//glast/level0 {hour} {apids} {out}"},
        "moot": {"file": DATA + "/HalfPipe-moot_keys.txt"},
        "ledger": {"url": "oracle+oracledb://isocflight"},
    },
    "profile": {"executor": "halfpipe", "jobs": 100, "resources": ["slot=16"], "set-threads": ["batch=4"],
                "default-resources": {"slurm_partition": "milano", "slurm_account": "fermi:L1",
                                      "mem_mb": 4000, "runtime": 30},
                "set-resources": {"batch": {"slurm_account": "fermi:users", "qos": "preemptable",
                                            "mem_mb": "16000 * attempt", "runtime": 240}}},
    "flight": {
        "runtime": "apptainer", "image": SDF + "/sw/containers/fermi-rhel6.sif",
        "binds": [
            "/sdf", SDF + "/n:/nfs/farm/g/glast", SDF + "/a:/afs/slac/g/glast",
            SDF + "/a:/afs/slac.stanford.edu/g/glast", SDF + "/sw/package:/afs/slac/package",
            SDF + "/sw/package:/afs/slac.stanford.edu/package", SDF + "/sw/containers/rhel6/opt/TWWfsw:/opt/TWWfsw",
            SDF + "/sw/containers/rhel6/usr/local:/usr/local", SDF + "/sw/java/jdk/jdk8:/usr/lib/jvm/jre-1.8.0-openjdk",
        ],
        "optional_binds": ["/lscratch"],
        "environment": {"PATH": "/usr/local/bin:/usr/bin:/bin",
                        "fmxRoot": SDF + "/ground/fmx", "FMX_C_FDB": SDF + "/ground/fmx"},
        "decoder": {"program": ["/afs/slac/g/glast/isoc/flightOps/rhel6_gcc44/ISOC_PROD/bin/shisoc",
                                "--add-env=flightops", "getLSEChunk.exe"]},
    },
}  # fmt: skip
NAMES = dict(config="config/s3df.yaml", profile="profiles/s3df/profile.v9+.yaml", flight="config/flight.yaml")
CLIENT = SDF + "/sw/pipeline-II/dev/pipeline"  # if submit.command contains no client of the pipeline
# The query of Level-1's acqQuery.py. Level-1 fails if a run has no row.
QUERY = ("SELECT startedat, status, moot_key, moot_alias, evtutc0, evtutc1 FROM glastops_acqsummary"
         " WHERE startedat = (SELECT MAX(startedat) FROM glastops_acqsummary)")  # fmt: skip
GOOD, PROBLEM, UNKNOWN = "good", "problem", "unknown"
OTHER_HOST = "use a host of Fermi's interactive pool (ssh fermi-devl) or a batch host; login hosts mount only homes"
CRON_HOST = "sdfcron001"  # the only host of s3df that runs the crontabs of users

Place = namedtuple("Place", "key path writes is_file")
Job = namedtuple("Job", "account qos cores megabytes minutes")
Ended = namedtuple("Ended", "status said")  # status None: there is no such program

class Site:
    """The site's config, profile and flight programs, and the names of their files."""

    def __init__(self, config, profile, flight, names, root, quiet):
        self.config, self.profile, self.flight, self.names = config, profile, flight, names
        self.root, self.quiet = root, quiet
        self.resources = self.pairs("default-resources")
        self.slurm = profile.get("executor") in {"halfpipe", "slurm"}

    def __call__(self, key, otherwise=None):
        """Return the value of a key of the config, as in paths.work."""
        value = self.config
        for name in key.split("."):
            value = (value or {}).get(name)
        return otherwise if value is None else value

    def pairs(self, key):
        """Return names and values of a key of the profile, which may be a list of name=value."""
        given = self.profile.get(key) or {}
        return dict(one.split("=", 1) for one in given) if isinstance(given, list) else given

    def jobs(self):
        """Return the largest job of a downlink, and one of history."""
        batch = dict(self.resources, **self.pairs("set-resources").get("batch", {}))
        slots, threads = self.pairs("resources").get("slot", 1), self.pairs("set-threads").get("batch", 1)
        return job_of(self.resources, int(slots), int(slots)), job_of(batch, int(threads), 1)

    def places(self):
        """Return the paths of the config, whether HalfPipe writes there, and whether each is a file."""
        found = [Place(key, self(key), True, False) for key in
                 ("paths.work", "paths.stage", "paths.online", "board.dir")]  # fmt: skip
        found += [Place("paths.level0", self("paths.level0"), False, False)]
        found += [Place("moot.file", self("moot.file"), False, True)]
        found += [Place("paths.retdef", path, False, False) for path in self("paths.retdef", [])]
        found += [Place("paths.map", path, False, False) for path in dict.fromkeys(self("paths.map", {}).values())]
        return [one._replace(path=os.path.join(self.root, one.path)) for one in found if one.path]

def job_of(resources, cores, chunks):
    """Return the first attempt of a job; a resource is a number, or a text such as "4000 * attempt"."""
    memory, minutes = [int(re.sub(r"\D.*", "", str(resources.get(key, 1))) or 1) for key in ("mem_mb", "runtime")]
    return Job(resources.get("slurm_account") or "", resources.get("qos") or "usual", cores, memory * chunks, minutes)

# ---- the probes: each yields findings, the most likely problem first ----

def found(well, code, seen, do):
    """Return a finding: good, a problem, or unknown (None); what was seen, and what to do unless it is good."""
    verdict = UNKNOWN if well is None else GOOD if well else PROBLEM
    return {"verdict": verdict, "code": code, "seen": seen, "do": do if verdict != GOOD else ""}

# What sbatch prints if it refuses a job, the code of the finding, and what to do. The first text that fits counts.
REFUSALS = [
    ("Invalid account", "account-refused", "have {me} added to {account}, or set another slurm_account in {file}"),
    ("Invalid qos", "qos", "ask s3df for the QOS, or correct it in {file}"),
    ("violates accounting", "limits", "ask for the limit that Slurm names, or correct {file}"),
    ("", "job-refused", "correct mem_mb, runtime, slot or slurm_partition in {file}: no node may run such a job"),
]
# Columns of sacctmgr: first names, then limits.
COLUMNS = {
    "associations": "account,user,parentname,defaultqos,grptres,maxtres,grpjobs,grpsubmit,maxjobs,maxsubmit",
    "qos": "name,grptres,maxtres,maxtrespu,maxtrespa,grpjobs,grpsubmit,maxjobspu,maxsubmitpu,maxjobspa,maxsubmitpa",
}

def account(site):
    """Whether Slurm has the profile's partition, and accepts jobs with its accounts, QOS and sizes."""
    file, (tonight, history) = site.names["profile"], site.jobs()
    wanted, partition = tonight.account, site.resources.get("slurm_partition")
    if not site.slurm:
        return
    if not wanted or not partition:
        yield found(False, "account", "no account or no partition", f"set both in default-resources of {file}")
        return
    ping = run("scontrol", "ping")
    if ping.status is None:
        yield found(None, "slurm-away", ping.said, "see host-slurm")
    elif "Munge" in ping.said:
        yield found(False, "munge", last(ping, "Munge"), "use another host, or ask s3df to start munged on this one")
    elif " is UP" not in ping.said:
        yield found(False, "slurm-away", last(ping, "is DOWN"), "wait, HalfPipe's jobs wait, too; or ask s3df")
    if " is UP" not in ping.said:
        return
    shown = dict(re.findall(r"(\w+)=(\S+)", run("scontrol", "-o", "show", "partition", partition).said))
    if "State" not in shown:
        do = f"set slurm_partition in {file}; sinfo lists all"
        yield found(False, "partition", f"there is no partition {partition}", do)
        return
    nodes = [line.split() for line in run("sinfo", "-h", "-p", partition, "-o", "%D %T").said.splitlines()]
    up = shown["State"] == "UP" and [each for each in nodes if not re.match("drain|down|maint|fail|unk", each[-1])]
    code = "partition-nodes" if shown["State"] == "UP" else "partition-down"
    seen = f"{partition} is {shown['State']}: {', '.join(map(' '.join, nodes))}"
    do = "wait, jobs wait for it, too; sinfo -R shows the reasons of nodes, and s3df those of a partition"
    yield found(bool(up), code, seen, do)
    names = sorted({row["account"] for row in listed("associations", f"user={ME}")})
    yours = f"sacctmgr lists {', '.join(names) or 'nothing'}"
    if not names:
        yield found(None, "account-list", f"sacctmgr lists no account of {ME}", "ask s3df whether slurmdbd is up")
    bare = wanted.partition("@")[0]
    spellings = list(dict.fromkeys([wanted, bare, f"{bare.lower()}@{partition}"]))
    taken = [each for each in spellings if submitted(partition, tonight._replace(account=each)).status == 0]
    # The profile's spelling comes first, because HalfPipe's executor does not compare it with the list of accounts.
    taken.sort(key=lambda each: (each != wanted, bool(names) and each not in names))
    if taken and taken[0] != wanted:
        do = f'set slurm_account: "{taken[0]}" in {file}; sbatch accepts it'
        yield found(False, "account-spelling", f"sbatch refuses {wanted}, the profile's; {yours}", do)
    jobs = [("account", tonight)] + ([("qos", history)] if history[:2] != tonight[:2] else [])
    allowed, longest = shown.get("AllowAccounts", "ALL").split(","), shown.get("MaxTime", "")
    limit = re.match(r"(?:(\d+)-)?(\d+):(\d+):", longest)  # or UNLIMITED
    days, hours, minutes = map(int, limit.groups(0)) if limit else (999, 0, 0)
    for good, job in jobs if taken[:1] in ([], [wanted]) else jobs[1:]:
        ended, seen = submitted(partition, job), "{}, QOS {}, {} cores, {} MB, {} min".format(*job)
        said = " ".join(re.sub(r"sbatch: (error: )?|allocation failure: ", "", ended.said).split())
        _, code, do = next(each for each in REFUSALS if each[0] in said)
        ours = {"ALL", job.account, *(row["account"] for row in families(site, [job]) if allowed != ["ALL"])}
        if names and not ours & set(allowed):
            do = f"ask s3df for access to {partition}, or set slurm_partition in {file}"
            yield found(False, "partition-closed", f"{partition} takes only accounts {', '.join(allowed)}", do)
        elif ended.status == 0 and job.minutes > 1440 * days + 60 * hours + minutes:
            yield found(False, "job-long", f"{seen}: MaxTime of {partition} is {longest}", f"shorten runtime in {file}")
        elif ended.status == 0:
            yield found(True, good, f"sbatch accepts {seen}; {yours}", "")
        elif code != "job-refused" or up:
            yield found(False, code, f"{seen}: {said}; {yours}", do.format(me=ME, account=job.account, file=file))
    if len(jobs) == 1:
        do = f"give batch in {file} a slurm_account or qos of its own: history must not use up Level-1's allocation"
        yield found(None, "qos", "history uses the allocation of Level-1", do)

def submitted(partition, job):
    """Ask Slurm whether it would accept a job, without submitting one."""
    size = ["-c", str(job.cores), "-t", str(job.minutes), f"--mem={job.megabytes}M"]
    qos = [f"--qos={job.qos}"] if job.qos != "usual" else []
    return run("sbatch", "--test-only", "--wrap=true", "-A", job.account, "-p", partition, *(size + qos))

def listed(what, which):
    """Return rows of accounting (associations or qos), or an empty list if it does not answer."""
    columns = COLUMNS[what].split(",")
    ended = run("sacctmgr", "-n", "-P", "show", what, "format=" + COLUMNS[what], "where", which)
    rows = [line.split("|") for line in ended.said.splitlines() if ended.status == 0]
    return [dict(zip(columns, row)) for row in rows if len(row) == len(columns)]

def families(site, jobs):
    """Return accounting's rows of the accounts of jobs, and of all their parents."""
    charged, partition, rows = [job.account for job in jobs if job.account], site.resources.get("slurm_partition"), []
    ask = charged + [f"{each.partition('@')[0].lower()}@{partition}" for each in charged]
    for name in ask:  # the list grows
        for row in listed("associations", f"account={name}"):
            if row["user"] in ("", ME):
                rows.append(row)
                ask += [row["parentname"]] if row["parentname"] and row["parentname"] not in ask else []
    return rows

def limits(site):
    """Whether a limit of the accounts, of a parent account, or of a QOS stops all jobs."""
    if not site.slurm:
        return
    most, limited = int(site.profile.get("jobs") or 1), {}
    rows = families(site, site.jobs())
    for row in rows:
        limited.setdefault(row["account"], {}).update(numbers(list(row.items())[4:]))
    usual = [row["defaultqos"] for row in rows if row["defaultqos"]] or ["normal"]
    for name in dict.fromkeys(each for job in site.jobs() for each in (usual if job.qos == "usual" else [job.qos])):
        for row in listed("qos", f"name={name}"):
            limited[f"QOS {name}"] = numbers(list(row.items())[1:])
    for who, given in limited.items():
        queue = min([number for key, number in given.items() if "submit" in key] + [most])
        if 0 < queue < most:
            do = f"set jobs: {queue} in {site.names['profile']}"
            yield found(False, "limit-submit", f"{who}: {queue} jobs in the queue; the profile has jobs: {most}", do)
    seen = ", ".join(f"{who} {key}={number}" for who, given in limited.items() for key, number in given.items())
    do = "wait, or ask the manager of Fermi's allocation; s3df sets a limit to zero while usage is above 100 %"
    if not rows:
        charged = ", ".join(dict.fromkeys(job.account for job in site.jobs()))
        yield found(None, "limits", f"sacctmgr shows nothing about {charged}", "ask s3df for the limits")
    else:
        yield found(all(all(given.values()) for given in limited.values()), "limits", seen or "no limits", do)

def numbers(cells):
    """Return the limits in cells of sacctmgr, such as grptres: cpu=20,node=0 or grpjobs: 5."""
    parts = [(key, each.rpartition("=")) for key, cell in cells for each in cell.split(",")]
    return {f"{key} {part[0]}".strip(): int(part[2]) for key, part in parts if part[2].isdigit()}

def python(site):
    """Whether there is a Python for HalfPipe and the tools to build its environment, and whether pip finds packages."""
    stated = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', read(f"{site.root}/pyproject.toml"))
    low, high = map(int, stated.groups() if stated else NEEDED)
    venv, seen, suited = f"{site.root}/.venv/bin/python", [], None
    names = [venv, os.environ.get("PYTHON"), "python3"] + [f"python3.{minor}" for minor in range(high - 1, low - 1, -1)]
    for name in filter(None, names):
        code = "import sys; print('%d.%d.%d' % sys.version_info[:3]); import ssl, venv, ensurepip; print('whole')"
        ended = run(name, "-c", code)
        minor = re.match(r"3\.(\d+)\.\d+", ended.said)
        if minor and not suited:
            fits = low <= int(minor.group(1)) < high
            suited = name if fits and ("whole" in ended.said or name == venv) else None
            seen.append(f"{name} is {minor.group()}" + (f" without venv: {last(ended)}" if fits and not suited else ""))
    do = "install one (docs/operations.md: conda or uv), then: make .venv PYTHON=/path/to/python3.12"
    yield found(bool(suited), "python", f"{', '.join(seen)}; needed: 3.{low} to 3.{high - 1}, with venv", do)
    missing = [name for name in ("make", "git") if shutil.which(name) is None]
    if missing:
        yield found(False, "tools", f"not on PATH: {', '.join(missing)}", OTHER_HOST)
    if suited and suited != venv:
        proxy = re.sub("//[^/@]*@", "//", os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or "none")
        options = "--disable-pip-version-check", "--no-cache-dir", "--no-input", "--retries=0", "--timeout=8"
        ended = run(suited, "-m", "pip", "index", "versions", "wheel", *options)
        do = "export https_proxy=http://HOST:PORT, or copy wheels here (docs/operations.md)"
        yield found(ended.status == 0, "pip", f"https_proxy: {proxy}; {last(ended)}", do)

def host(site):
    """Whether this host has the file systems and programs that HalfPipe needs."""
    tops = sorted({"/" + one.path.split("/")[1] for one in site.places()})
    here = [f"{top} {'exists' if os.path.isdir(top) else 'does not exist'}" for top in tops]
    yield found(all(map(os.path.isdir, tops)), "host-mounts", ", ".join(here), OTHER_HOST)
    wanted = {}
    if site.slurm:
        wanted["slurm"] = ["sbatch", "squeue", "sacctmgr", "sacct", "scontrol", "sinfo", "scancel"]
    if site.flight.get("runtime", "none") != "none":
        wanted["container"] = [site.flight["runtime"]]
    if "xrootd" in site("level0.fetch", ""):
        wanted["xrootd"] = ["xrdfs", "xrdcp"]
    for what, programs in wanted.items():
        missing = [name for name in programs if shutil.which(name) is None]
        seen = f"not on PATH: {', '.join(missing)}" if missing else f"on PATH: {', '.join(programs)}"
        do = f"{OTHER_HOST}, or put their directory on PATH, which jobs inherit"
        yield found(not missing, f"host-{what}", seen, do)
    mask = os.umask(0o077)
    os.umask(mask)
    do = "umask 0002 in ~/.bashrc, and in the unit or crontab that starts HalfPipe, so that the group can continue"
    yield found(not mask & 0o020, "host-umask", f"umask {mask:04o}", do)
    scratch = os.access("/lscratch", os.W_OK)
    do = "nothing on this host; halfpipe doctor --probe checks a batch node"
    yield found(scratch or None, "host-lscratch", f"/lscratch {'exists' if scratch else 'does not exist'}", do)
    if "halfpipe unattended" in run("crontab", "-l").said and socket.gethostname().split(".")[0] != CRON_HOST:
        do = f"crontab -r here, then install it on the host that runs crontabs: ssh {CRON_HOST} (docs/operations.md)"
        yield found(False, "host-cron", "the timer is in a crontab of this host, which s3df does not run", do)
    over = run("quota", "-q")
    if over.status:
        yield found(False, "quota", " ".join(over.said.split()), "remove files, or ask for more (quota -s)")

def place(site, one):
    """Whether HalfPipe can use one path of the config."""
    path, writes, what, there = one.path, one.writes, f"{one.key} {one.path}", f"{one.key} in {site.names['config']}"
    if not os.path.isdir("/" + path.split("/")[1]):
        yield found(None, "path", f"{what}: its file system is not mounted here", "see host-mounts")
        return
    try:
        stated, disk = os.stat(path), os.statvfs(path)
    except OSError as error:
        make = writes and isinstance(error, FileNotFoundError)
        do = (f"mkdir -p -m 2775 {path}; or " if make else "have it mounted, or ") + f"correct {there}"
        yield found(False, "path-missing", f"{what}: {error.strerror}", do)
        return
    if one.is_file != stat.S_ISREG(stated.st_mode):
        yield found(False, "path-kind", f"{what}: no {'file' if one.is_file else 'directory'}", f"correct {there}")
        return
    kind, options = mounted(os.path.realpath(path))
    free, total, mode = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize, stated.st_mode
    owner, group = name_of(pwd.getpwuid, stated.st_uid), name_of(grp.getgrgid, stated.st_gid)
    seen = f"{what}: {owner}:{group} {stat.S_IMODE(mode):04o}, {kind} {options}"
    seen += f", {free / 1e12:.2f} of {total / 1e12:.2f} TB free"
    bad = []
    if not os.access(path, os.R_OK if one.is_file else os.R_OK | os.X_OK):
        bad += [("path-closed", f"{ME} may not read it", f"ask {owner} for access, or run HalfPipe as {owner}")]
    if writes and "ro" in options.split(","):
        bad += [("path-readonly", "mounted read-only", "use another host, or ask s3df")]
    elif writes and not os.access(path, os.W_OK | os.X_OK):
        do = f"have {owner} run: chmod g+rwxs {path}; or run HalfPipe as {owner}"
        bad += [("path-not-writable", f"{ME} may not write there", do)]
    if writes and not (mode & stat.S_ISGID and mode & stat.S_IWGRP):
        do = f"chgrp GROUP {path}; chmod 2775 {path}; otherwise the next person on shift cannot continue"
        bad += [("path-group", "no setgid, or closed to the group", do)]
    if writes and site.slurm and stated.st_dev in own_disks():
        bad += [("path-local", "a disk of this host that other nodes do not see", f"set a shared one: {there}")]
    if writes and free < LEAST_SHARE * total and free < LEAST_BYTES:
        bad += [("path-full", f"{free / 1e9:.1f} GB are free", "free some, or ask for a larger quota")]
    if writes and disk.f_favail < min(LEAST_FILES, LEAST_SHARE * disk.f_files):
        bad += [("path-inodes", f"room for {disk.f_favail} files", "remove files, or ask for more inodes")]
    public = path.partition("/public_html")[0] + "/public_html"
    if path.startswith(public):  # the web server follows no link that leads out of it, and is not in the group
        if os.path.relpath(os.path.realpath(path), os.path.realpath(public)).startswith(".."):
            bad += [("path-public", f"a link leads out of {public}, so nothing is served", f"correct {there}")]
        elif mode & (stat.S_IROTH | stat.S_IXOTH) != (stat.S_IROTH | stat.S_IXOTH):
            bad += [("path-public", "closed to the web server", f"chmod o+rx {path}")]
    for code, text, do in bad:
        yield found(False, code, f"{seen}; {text}", do)
    if not bad:
        yield found(True, "path", seen, "")

def name_of(ask, number):
    """Return the name of a user or a group, or its number."""
    try:
        return ask(number)[0]
    except KeyError:
        return str(number)

ME = os.environ.get("LOGNAME") or os.environ.get("USER") or name_of(pwd.getpwuid, os.getuid())

def mounted(path):
    """Return type and options of the file system that contains a path."""
    best = "", "?", "?"
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        point, options = before.split()[4:6]
        if len(point) >= len(best[0]) and (path + "/").startswith(point.rstrip("/") + "/"):
            best = point, after.split()[0], options
    return best[1:]

def own_disks():
    """Return the devices that certainly belong to this host alone."""
    return {os.stat(each).st_dev for each in ("/", "/tmp", "/dev/shm", "/lscratch") if os.path.isdir(each)}

def image(site):
    """Whether the container starts on this host with its binds, and the decoder starts in it."""
    flight, file = site.flight, site.names["flight"]
    if flight.get("runtime", "none") == "none":
        return
    on = "vsyscall=none" not in read("/proc/cmdline") and "[vsyscall]" in read("/proc/self/maps")
    do = "pin a partition whose nodes have vsyscall=xonly or emulate, or ask s3df for it"
    yield found(on, "image-vsyscall", "vsyscall is on" if on else "no vsyscall, so RHEL 6 programs get signal 11", do)
    binds = list(flight.get("binds") or [])
    binds += [bind for bind in flight.get("optional_binds") or [] if os.path.exists(bind.split(":")[0])]
    lost = dict.fromkeys(bind.split(":")[0] for bind in binds if not os.path.exists(bind.split(":")[0]))
    if lost:
        do = f"have it mounted; directories that only some hosts have belong in optional_binds of {file}"
        yield found(False, "bind-missing", f"sources of binds do not exist: {', '.join(lost)}", do)
    if not os.path.exists(flight.get("image") or ""):
        yield found(False, "image-missing", f"{flight.get('image')} does not exist", f"correct image in {file}")
        return
    words = [flight["runtime"], "exec", "--cleanenv"]
    words += [word for bind in binds for word in ("--bind", bind)]
    words += [word for pair in (flight.get("environment") or {}).items() for word in ("--env", "=".join(pair))]
    words += ["--pwd", "/", flight["image"]]
    ended = run(*words, "/bin/true")
    if ended.status is None:
        return  # host-container reports it
    do = "run by hand: " + " ".join(map(shlex.quote, words + ["/bin/true"]))
    seen = f"/bin/true in {flight['image']} ends with {ended.status}: {last(ended)}"
    yield found(ended.status == 0, "image-true", seen, do)
    if ended.status == 0:
        program = flight["decoder"]["program"]
        ended = run(*words, *program)
        seen = f"{program[-1]} without arguments ends with {ended.status}: {last(ended)}"
        do = f"correct decoder.program, binds or environment in {file}"
        yield found(ended.status in range(126), "image-decoder", seen, do)

def data(site):
    """Whether there are RetDefs and level-0 of the last day, and the server with older level-0 answers."""
    when, path = 0, ""
    for home in filter(os.path.isdir, site("paths.retdef", [])):
        for downlink in sorted(name for name in os.listdir(home) if re.match(r"\d{9}$", name))[-30:]:
            for entry in os.scandir(f"{home}/{downlink}"):
                if re.match(r"RetDef-\d{9}-\d{5}\.xml$", entry.name):
                    when, path = max((when, path), (entry.stat().st_mtime, entry.path))
    do = "ask the ISOC where ProcessSCI writes RetDefs (outdir of configDispatch), and set paths.retdef to it"
    yield found(time.time() - when < DAY, "retdefs", f"the newest is {path} of {utc(when)}" if path else "none", do)
    arch = re.search(r'<arch[^>]*scid="(\d+)"[^>]*>\s*(\S+?)\s*</arch>', read(path)) if path else None
    root = site("paths.level0") or (mapped(arch.group(2), site("paths.map", {})) if arch else "")
    if arch and not os.path.isdir(root):
        do = f"correct paths.map or paths.level0 in {site.names['config']}"
        yield found(False, "archive", f"{root}, the archive in {path}, does not exist", do)
    elif arch:
        hours = [hour_of(int(arch.group(1)), time.time() - 3600 * n) for n in range(25)]
        there = [hour for hour in hours if os.path.isdir(f"{root}/{hour}")]
        do = f"ask the ISOC where level-0 is ingested; expected {root}/{hours[-1]}"
        seen = f"{root} has {len(there)} of the last 25 hours" + "".join(f", the newest is {hour}" for hour in there[:1])
        yield found(bool(there), "level0", seen, do)
    copy = re.search(r"root://([^/\s]+)/(/\S+)", site("level0.fetch", ""))
    soon = {"XRD_CONNECTIONWINDOW": "8", "XRD_CONNECTIONRETRY": "1"}
    ended = run("xrdfs", copy.group(1), "ls", copy.group(2), **soon) if copy else Ended(None, "")
    if ended.status is not None:
        do = "ask its operators, or set level0.fetch to null; then hours that left the archive stay missing"
        seen = "answers" if ended.status == 0 else last(ended)
        yield found(ended.status == 0, "level0-copy", f"{copy.group()}: {seen}", do)

def hour_of(spacecraft, when):
    """Return the directory of an hour of level-0 below the archive's root, whatever the locale is."""
    at = datetime.datetime.utcfromtimestamp(when)
    day = "Mon Tue Wed Thu Fri Sat Sun".split()[at.weekday()]
    return f"src{spacecraft:04d}/{at:%Y/%m/%j.%m.%d}.{day}/utc{at:%H}"

def mapped(path, prefixes):
    """Return a path of a RetDef as it is on this host; the longest prefix counts."""
    for old in sorted(prefixes, key=len, reverse=True):
        if (path + "/").startswith(old.rstrip("/") + "/"):
            return prefixes[old].rstrip("/") + path[len(old.rstrip("/")) :]
    return path

def client(site):
    """Whether the pipeline's client finds streams of Level-1."""
    command = site("submit.command", "")
    named = [word for word in shlex.split(command) if os.path.basename(word) == "pipeline"]
    program = shutil.which(named[0] if named else "pipeline") or (named + [CLIENT])[0]
    mode = "DEV" if re.search(r"(-m|--mode)\s+DEV", command) else "PROD"
    ended = run(program, "-m", mode, "find", "--count", "L1Proc", "findRunDirs", "status")
    if ended.status is None:
        do = "ask the pipeline's maintainers for its path, and set it in submit.command"
        yield found(False if command else None, "client-missing", ended.said, do)
    else:
        do = "send this to the pipeline's maintainers; submit.command cannot work with this client"
        yield found(ended.status == 0, "client", f"{program} find ends with {ended.status}: {last(ended)}", do)

def ledger(site):
    """Whether the ledger answers Level-1's query."""
    url = str((site("ledger") or {}).get("url", "built-in"))
    server = re.match(r"(postgresql|oracle)[^:]*(://[^/]*?([^/@?]*)([/?].*|))$", url)
    if server is None:
        do = "for a shadow or a test nothing; for production set ledger.url to the database that Level-1 reads"
        yield found(None, "ledger", f"ledger.url is {url}, which Level-1 does not read", do)
        return
    kind, rest, name, _ = server.groups()
    if kind == "postgresql":
        words = ["psql", "-X", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", kind + rest, "-c", QUERY]
        ended = run(*words, PGCONNECT_TIMEOUT="10")
    else:
        script = f"whenever sqlerror exit 1\nset pagesize 0 feedback off colsep |\n{QUERY};\n"
        there = site("ledger.tns_admin") or os.environ.get("TNS_ADMIN", "")
        ended = run("sqlplus", "-S", "-L", "/@" + name, given=script, TNS_ADMIN=there)
    row = re.search(r"^\s*\d+\s*\|.*$", ended.said, re.MULTILINE)
    if ended.status is None:
        yield found(None, "ledger", f"not checked: {ended.said}", "halfpipe doctor uses the package's own driver")
    elif ended.status:
        do = "check the database, the user and the password file or wallet (docs/ledger.md)"
        yield found(False, "ledger", f"{url}: {last(ended)}", do)
    else:
        seen = f"its last run: {row.group().strip()}" if row else "it has no run"
        yield found(bool(row) or None, "ledger", f"{url} answers; {seen}", "nothing, if it is new")

def person(site):
    """Whether an alarm reaches a person: one test message."""
    command, there = site("alarm.command"), f"alarm.command in {site.names['config']}"
    if not command or re.search(r"@localhost\b|@example\.", command):
        do = f"set {there}, for example: mail -s {{subject}} ADDRESS"
        seen = f"a placeholder: {command}" if command else "no alarm.command, so failures at night reach no one"
        yield found(False, "person", seen, do)
        return
    if site.quiet:
        yield found(None, "person", "no message was sent (--no-message)", "run it without --no-message")
        return
    subject = "HalfPipe doctor: a test message, nothing is wrong"
    words = [word.replace("{subject}", subject) for word in shlex.split(command)]
    words[:1] = [sys.executable] if words[0] == "python" else words[:1]
    os.chdir(site.root)
    ended = run(*words, given=f"{subject}\nSent by {ME} on {socket.gethostname()}.\n")
    seen = "a test message was sent; ask whether it arrived" if ended.status == 0 else f"failed: {last(ended)}"
    do = f"use a host that has {words[0]}, or correct {there}"
    yield found(ended.status == 0, "person", f"{command}: {seen}", do)


PROBES = [  # the most likely problem first, and how many seconds each may take
    (account, 20),
    (python, 25),
    (host, 10),
    (place, 10),  # for each path of the config
    (image, 25),
    (data, 20),
    (limits, 20),
    (client, 25),
    (ledger, 20),
    (person, 20),
]

# ---- how they run: each in its own process, so that a dead mount or server costs only one line ----

def tell(line):
    """Send a line to the process that started the probe; each probe replaces this function by its own."""

def run(*words, given="", **environment):
    """Run a program; return its status and everything that it printed. The time limit is the probe's."""
    tell(json.dumps(" ".join(words)))
    try:
        done = subprocess.run(words, input=given, env=dict(os.environ, **environment), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, encoding="utf-8", errors="replace")  # fmt: skip
    except OSError as error:
        return Ended(None, f"{words[0]}: {error.strerror}")
    return Ended(done.returncode, done.stdout.strip())

def last(ended, what="error|fail|fatal"):
    """Return the last line of a program's output with an error, or else its last line."""
    lines = ended.said.splitlines() or ["(it printed nothing)"]
    return ([line for line in lines if re.search(what, line, re.I)] or lines)[-1].strip()

def together(site):
    """Yield the findings of all probes in their order, none later than `SECONDS`."""
    jobs = []
    for probe, seconds in PROBES:
        for given in site.places() if probe is place else [None]:
            jobs.append(start(probe, site, given, time.time() + min(seconds, SECONDS)))
    processes = [job["process"] for job in jobs]
    try:
        while jobs:
            at_work = {job["pipe"]: job for job in jobs if not job["ended"]}
            left = min(job["until"] for job in at_work.values()) - time.time()
            for pipe in select.select(list(at_work), [], [], max(0, left))[0]:
                piece = os.read(pipe, 65536)
                at_work[pipe]["said"] += piece
                at_work[pipe]["ended"] = not piece
            for job in at_work.values():
                if time.time() >= job["until"] and not job["ended"]:
                    job["ended"] = job["late"] = True
            while jobs and jobs[0]["ended"]:
                for finding in findings_of(jobs.pop(0)):
                    yield finding
    finally:
        for process in processes:
            try:
                os.killpg(process, signal.SIGKILL)  # do not wait for a process that hangs in a file system
            except OSError:
                pass

def start(probe, site, given, until):
    """Start a probe in its own process group; it prints its findings into a pipe."""
    global tell
    ours, theirs = os.pipe()
    process = os.fork()
    if process:
        try:
            os.setpgid(process, process)
        except OSError:
            pass  # it has done so itself
        os.close(theirs)
        name = f"{probe.__name__} {given.path if given else ''}".strip()
        job = {"name": name, "process": process, "pipe": ours, "until": until}
        return dict(job, said=b"", ended=False, late=False)
    os.setpgid(0, 0)
    out = os.fdopen(theirs, "w")
    tell = functools.partial(print, file=out, flush=True)
    try:
        for finding in probe(site, given) if given else probe(site):
            tell(json.dumps(finding))
    except Exception as error:  # reported; the other probes continue
        tell(json.dumps(found(None, "doctor", f"{probe.__name__}: {error!r}", "send this line back")))
    os._exit(0)

def findings_of(job):
    """Return the findings of a probe, with one more if it was late. A text between them is the program it ran."""
    said = [json.loads(line) for line in job["said"].decode().splitlines()]
    if job["late"]:
        at = ([job["name"]] + [each for each in said if isinstance(each, str)])[-1]
        said.append(found(None, "late", f"{job['name']}: no answer in time from: {at}", "run that by hand"))
    return [each for each in said if isinstance(each, dict)]

def utc(when):
    """Return a Unix time as text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))

def read(path):
    """Return the text of a file, or an empty text if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

# ---- the site: from the command line, from files beside this one, or built in ----

def yaml(text):
    """Read a YAML file of this project, which has only mappings, lists and words by indentation."""
    lines = [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in lines if line.strip()]

    def word(said):
        if said[:1] == "[" and said[-1:] == "]":
            return [word(each.strip()) for each in said[1:-1].split(",") if each.strip()]
        if said[:1] in ("'", '"') and said[-1:] == said[:1]:
            return said[1:-1]
        known = {"": None, "null": None, "~": None, "true": True, "false": False, "{}": {}}
        number = re.match(r"-?\d+(\.\d+)?$", said)
        return known[said] if said in known else said if not number else (float if number.group(1) else int)(said)

    def block(depth):
        if lines[0][1].startswith("- "):
            items = []
            while lines and lines[0][0] == depth and lines[0][1].startswith("- "):
                items.append(word(lines.pop(0)[1][2:].strip()))
            return items
        found = {}
        while lines and lines[0][0] == depth:
            key, said = re.match(r"(.*?):(?:\s+(.*)|)$", lines.pop(0)[1]).groups()
            while said and lines and lines[0][0] > depth:
                said += " " + lines.pop(0)[1]  # the rest of a folded line
            below = lines and (lines[0][0] > depth or (lines[0][0] == depth and lines[0][1].startswith("- ")))
            found[word(key)] = block(lines[0][0]) if not said and below else word(said or "")
        return found

    return block(lines[0][0]) if lines else {}

def site_of(given):
    """Return the site from the command line, else from the files beside this one, else with built-in values.

    Raises ValueError if a file cannot be used.
    """
    beside = os.path.dirname(os.path.realpath(__file__))
    root = os.path.dirname(os.path.dirname(beside))
    root = root if os.path.exists(f"{root}/pyproject.toml") else os.getcwd()
    if given.site:
        return Site(root=root, quiet=given.no_message, **json.load(sys.stdin))
    parts, names = dict(BUILT_IN), dict(NAMES)

    def take(what, path):
        names[what] = os.path.normpath(path)
        try:
            with open(path, encoding="utf-8") as file:
                parts[what] = yaml(file.read())
            parts[what].keys()
        except (OSError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: cannot be read: {error}")

    profile = given.profile or f"{beside}/profile.v9+.yaml"
    if given.profile or os.path.exists(profile):
        take("profile", profile)
    config = given.config or os.path.join(os.path.dirname(profile), parts["profile"].get("configfile") or "")
    if os.path.isfile(config) or given.config:
        take("config", config)
        flight = re.search(r"--settings[ =](\S+)", (parts["config"].get("decoder") or {}).get("command") or "")
        parts["flight"] = {}
        if flight:
            take("flight", os.path.join(root, flight.group(1)))
    return Site(root=root, quiet=given.no_message, names=names, **parts)

def main():
    """Print the findings and the JSON; return the exit status."""
    parser = argparse.ArgumentParser(description="Check whether this host and account are ready for HalfPipe.")
    parser.add_argument("--config", help="the site's config, instead of the profile's config")
    parser.add_argument("--profile", help="the file with the site's profile")
    parser.add_argument("--no-message", action="store_true", help="do not send a test message")
    parser.add_argument("--site", choices=["-"], help=argparse.SUPPRESS)  # halfpipe doctor sends it to standard input
    given, began, all_found = parser.parse_args(), time.time(), []

    def say(text):
        sys.stdout.buffer.write((text + "\n").encode("utf-8", "replace"))  # whatever the locale is
        sys.stdout.buffer.flush()

    try:
        site = site_of(given)
    except ValueError as error:
        parser.error(str(error))
    system = re.search(r'PRETTY_NAME="?([^"\n]*)', read("/etc/os-release"))
    about = {"doctor": 1, "at": utc(began), "host": socket.gethostname(), "user": ME, "kernel": os.uname().release}
    about["system"] = system.group(1) if system else "?"
    say("HalfPipe's doctor: {user} on {host} ({system}, Linux {kernel}), {at}".format(**about))
    say("site: " + ", ".join(f"{name}{'' if name[0] == '/' else ' (built in)'}" for name in site.names.values()))
    for one in together(site):
        all_found.append(one)
        say("{verdict:8} {code:18} {seen}".format(**one) + (f"\n{'':27} do: {one['do']}" if one["do"] else ""))
    verdicts = [one["verdict"] for one in all_found]
    ready = PROBLEM not in verdicts and any((one["code"], one["verdict"]) == ("person", GOOD) for one in all_found)
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in (GOOD, PROBLEM, UNKNOWN))
    about.update(ready=ready, seconds=round(time.time() - began, 1), findings=all_found)
    say(f"{'ready' if ready else 'NOT ready'}: {counts}; {about['seconds']:.0f} s")
    say(json.dumps(about))
    return 0 if ready else 1

if __name__ == "__main__":
    sys.exit(main())

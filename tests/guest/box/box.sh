# Brings both ports to ACTIVE with the stock fabric manager, then gives a shell or runs the command.
port() { cat "/sys/class/infiniband/$1/ports/1/state"; }
mkdir -p /var/usr/lib/opa-fm /var/lib/opa-fm /var/crash/opafm /usr/lib/opa-fm
left=3000
until [ "$(port hfi1_0)" = "2: INIT" ] && [ "$(port hfi1_1)" = "2: INIT" ]; do
    left=$((left - 1)); [ "$left" -gt 0 ] || { echo "opx-box: no INIT"; exit 1; }
    sleep 0.1
done
# Without a syslog the manager tells everything on its output.
/usr/lib/opa-fm/bin/opafmd -D >/var/log/opa-fm.log 2>&1
until [ "$(port hfi1_0)" = "4: ACTIVE" ] && [ "$(port hfi1_1)" = "4: ACTIVE" ]; do
    left=$((left - 1)); [ "$left" -gt 0 ] || { echo "opx-box: no ACTIVE"; exit 1; }
    sleep 0.1
done
cd /root
if [ -e /command ]; then
    echo "opx-box: begin"
    sh /command
    echo "opx-box: end $?"
    exit 0
fi
stty sane
cat <<'TEXT'

Two Omni-Path adapters, hfi1_0 and hfi1_1, joined by a cable, both ACTIVE. Try:
  opainfo                      ibv_devinfo                    saquery
  HFI_UNIT=0 PSM2_DEVICES=self,hfi fi_pingpong -p psm2 -e rdm &
  HFI_UNIT=1 PSM2_DEVICES=self,hfi fi_pingpong -p psm2 -e rdm 127.0.0.1
  ibv_rc_pingpong -d hfi1_0 &
  ibv_rc_pingpong -d hfi1_1 127.0.0.1
"exit" ends the guest.

TEXT
PS1="opx-box# " sh -i
exit 0

-- Dissects packets of libfabric's OPX provider in 9B form, generations G1 to G4, from captures that opx-stack's tap writes
-- (pcapng, LINKTYPE_USER0, packets from LRH on).
--
--   tshark -X lua_script:tools/dissector/opx.lua -r run.pcapng
--
-- Which generation it is stands in the description of the capture's interfaces; "-o opx.generation:..." overrides it.

local opx = Proto("opx", "Omni-Path, OPX provider")

local hex, dec = base.HEX, base.DEC
local f = {
    sc = ProtoField.uint8("opx.lrh.sc", "Service class", dec),
    sl = ProtoField.uint8("opx.lrh.sl", "Service level", dec),
    dlid = ProtoField.uint16("opx.lrh.dlid", "Destination LID", dec),
    pktlen = ProtoField.uint16("opx.lrh.pktlen", "Length in dwords", dec),
    slid = ProtoField.uint16("opx.lrh.slid", "Source LID", dec),
    opcode = ProtoField.uint8("opx.bth.opcode", "Opcode", hex),
    pkey = ProtoField.uint16("opx.bth.pkey", "Partition key", hex),
    prefix = ProtoField.uint8("opx.bth.qp_prefix", "Queue pair prefix", hex),
    dst_rx = ProtoField.uint8("opx.bth.dst_rx", "Destination context", dec),
    small = ProtoField.uint8("opx.bth.field", "Field of the kind (length, tail, operation)", dec),
    psn = ProtoField.uint24("opx.psn", "PSN", hex),
    ack_req = ProtoField.bool("opx.ack_req", "Asks for an ACK"),
    kver = ProtoField.uint8("opx.kdeth.version", "KDETH version", dec),
    tidctrl = ProtoField.uint8("opx.kdeth.tidctrl", "TID control", dec),
    tid = ProtoField.uint16("opx.kdeth.tid", "TID", dec),
    offset = ProtoField.uint16("opx.kdeth.offset", "Offset", dec),
    jkey = ProtoField.uint16("opx.kdeth.jkey", "Job key", hex),
    hcrc = ProtoField.uint16("opx.kdeth.hcrc", "Header checksum", hex),
    generation = ProtoField.string("opx.generation", "Generation"),
    kind = ProtoField.string("opx.kind", "Kind"),
    origin_lid = ProtoField.uint32("opx.origin.lid", "Origin LID", dec),
    origin_rx = ProtoField.uint8("opx.origin.rx", "Origin context", dec),
    cq_data = ProtoField.uint32("opx.cq_data", "Completion data", hex),
    tag = ProtoField.uint64("opx.tag", "Tag", hex),
    len = ProtoField.uint64("opx.len", "Bytes of the message, or of this piece", dec),
    data = ProtoField.bytes("opx.data", "Data"),
    uid = ProtoField.uint24("opx.mp.uid", "Message (PSN of its first packet)", hex),
    at = ProtoField.uint32("opx.mp.offset", "Place in the message", dec),
    dput = ProtoField.uint8("opx.dput", "Operation", dec),
    flags = ProtoField.uint8("opx.rts.flags", "Flags", hex),
    niov = ProtoField.uint16("opx.niov", "Pieces", dec),
    ntidpairs = ProtoField.uint32("opx.ntidpairs", "TID pairs", dec),
    src_vaddr = ProtoField.uint64("opx.rts.src_vaddr", "Source address", hex),
    src_len = ProtoField.uint64("opx.rts.src_len", "Bytes to be fetched", dec),
    counter = ProtoField.uint64("opx.origin_counter", "Origin's counter", hex),
    cookie = ProtoField.uint64("opx.cookie", "Target's cookie", hex),
    rbuf = ProtoField.uint64("opx.rbuf", "Place at the receiver", hex),
    sbuf = ProtoField.uint64("opx.sbuf", "Place at the sender", hex),
    bytes = ProtoField.uint64("opx.bytes", "Bytes", dec),
    last_bytes = ProtoField.uint16("opx.last_bytes", "Bytes of the last packet", dec),
    dt = ProtoField.uint8("opx.atomic.datatype", "Datatype", dec),
    op = ProtoField.uint8("opx.atomic.op", "Atomic operation", dec),
    key = ProtoField.uint64("opx.mr_key", "Memory region's key", hex),
    ud_op = ProtoField.string("opx.ud.op", "Operation"),
    ud_start = ProtoField.uint24("opx.ud.start", "First PSN", hex),
    ud_count = ProtoField.uint32("opx.ud.count", "PSNs", dec),
    flow_slid = ProtoField.uint32("opx.flow.slid", "Flow's source LID", dec),
    flow_src_rx = ProtoField.uint8("opx.flow.src_rx", "Flow's source context", dec),
    flow_dlid = ProtoField.uint32("opx.flow.dlid", "Flow's destination LID", dec),
    flow_dst_rx = ProtoField.uint8("opx.flow.dst_rx", "Flow's destination context", dec),
    payload = ProtoField.bytes("opx.payload", "Payload"),
    icrc = ProtoField.uint32("opx.icrc", "ICRC", hex),
}
opx.fields = {}
for _, field in pairs(f) do table.insert(opx.fields, field) end

local e = {
    short = ProtoExpert.new("opx.short", "Shorter than a header of 56 bytes", expert.group.MALFORMED, expert.severity.ERROR),
    cut = ProtoExpert.new("opx.cut", "Shorter than its LRH says", expert.group.MALFORMED, expert.severity.WARN),
    kind = ProtoExpert.new("opx.unknown", "Opcode of no kind known", expert.group.UNDECODED, expert.severity.WARN),
}
opx.experts = { e.short, e.cut, e.kind }

opx.prefs.generation = Pref.enum("Generation", 0, "Whose packets these are", {
    { 1, "as the capture says, else G4", 0 },
    { 2, "G1", 1 },
    { 3, "G2", 2 },
    { 4, "G3", 3 },
    { 5, "G4", 4 },
}, false)

local description = Field.new("frame.interface_description")

local function generation_of()
    if opx.prefs.generation ~= 0 then return opx.prefs.generation end
    local said = description()
    local number = said and tostring(said):match("OPX G([1-4])")
    return tonumber(number) or 4
end

local DPUT = {
    [0] = "RZV", "PUT", "GET", "FENCE", "ATOMIC_FETCH", "ATOMIC_COMPARE_FETCH", "RZV_NONCONTIG", "RZV_ETRUNC", "RZV_TID", "PUT_CQ",
    "IPC",
}
local UD = { "PING", "ACK", "NACK", "RESYNCH", "RESYNCH_ACK", "NOOP" }
local FLAVOURS = { [0] = "MSG", "MSG_CQ", "TAG", "TAG_CQ" }

-- Kind and flavour of an opcode: transport.h, and which opcodes moved in G3.
local function kind_of(opcode, generation)
    local old = generation <= 2
    local fixed = { [0xc1] = "RZV_CTS", [0xc2] = "RZV_DATA", [0xc3] = "RMA_RTS", [0xc4] = "ATOMIC", [0xc5] = "ACK", [0xc6] = "UD" }
    if fixed[opcode] then return fixed[opcode] end
    if opcode == (old and 0xef or 0xeb) then return "MP_EAGER_NTH" end
    local groups = old and { [0xf0] = "INJECT", [0xf4] = "EAGER", [0xf8] = "MP_EAGER_FIRST", [0xfc] = "RZV_RTS" }
        or { [0xec] = "MP_EAGER_FIRST", [0xf0] = "INJECT", [0xf4] = "EAGER", [0xf8] = "RZV_RTS", [0xfc] = "RZV_RTS_HFISVC" }
    local kind = groups[bit.band(opcode, 0xfc)]
    if kind then return kind, bit.band(opcode, 3) end
    return nil
end

-- Receive contexts in flow keys and iovs lie big-endian, the sub-context first.
local function iov(tree, range)
    tree:add_le(f.rbuf, range(0, 8))
    tree:add_le(f.sbuf, range(8, 8))
    tree:add_le(f.bytes, range(16, 8))
end

function opx.dissector(buffer, pinfo, tree)
    pinfo.cols.protocol = "OPX"
    local top = tree:add(opx, buffer())
    if buffer:len() < 56 then
        top:add_proto_expert_info(e.short)
        return buffer:len()
    end
    local generation = generation_of()
    local h = function(n) return buffer(n * 8, 8) end
    top:add(f.generation, "G" .. generation):set_generated()

    local lrh = top:add(h(0), "Local route header")
    local w0 = buffer(0, 2):uint()
    lrh:add(f.sc, buffer(0, 1), bit.rshift(w0, 12))
    lrh:add(f.sl, buffer(1, 1), bit.band(bit.rshift(w0, 4), 15))
    lrh:add(f.dlid, buffer(2, 2))
    lrh:add(f.pktlen, buffer(4, 2), bit.band(buffer(4, 2):uint(), 0xfff))
    lrh:add(f.slid, buffer(6, 2))
    -- Its length counts the ICRC, which is there on the wire and not where software sees a packet.
    local whole = bit.band(buffer(4, 2):uint(), 0xfff) * 4
    local body_end = math.min(whole - 4, buffer:len())

    local opcode = buffer(8, 1):uint()
    local kind, flavour = kind_of(opcode, generation)
    local data = kind == "RZV_DATA"
    local bth = top:add(h(1), "Base transport header")
    bth:add(f.opcode, buffer(8, 1))
    bth:add(f.pkey, buffer(10, 2))
    bth:add(f.prefix, buffer(13, 1))
    local b6 = buffer(14, 1):uint()
    local small = generation == 1 and b6 or bit.rshift(b6, 3)
    bth:add(f.small, buffer(14, 1), small)
    bth:add(f.dst_rx, buffer(15, 1))

    local psn
    if data then
        psn = buffer(17, 3):uint()
        top:add(f.psn, buffer(17, 3))
        top:add(f.ack_req, buffer(16, 1), bit.band(buffer(16, 1):uint(), 0x80) ~= 0)
    elseif kind ~= "UD" then
        psn = buffer(16, 3):le_uint()
        top:add_le(f.psn, buffer(16, 3))
    end

    local kdeth = top:add(buffer(20, 8), "KDETH")
    local k0 = buffer(20, 4):le_uint()
    kdeth:add(f.kver, buffer(23, 1), bit.rshift(buffer(23, 1):uint(), 6))
    if data then
        kdeth:add(f.offset, buffer(20, 2), bit.band(k0, 0x7fff))
        kdeth:add(f.tid, buffer(22, 2), bit.band(bit.rshift(k0, 16), 0x3ff))
        kdeth:add(f.tidctrl, buffer(23, 1), bit.band(bit.rshift(k0, 26), 3))
    end
    -- Software sees only the header of a packet that the adapter has put into an expected buffer.
    local placed = data and bit.band(bit.rshift(k0, 26), 3) ~= 0
    if whole - 4 > buffer:len() and not placed then top:add_proto_expert_info(e.cut) end
    kdeth:add_le(f.jkey, buffer(24, 2))
    kdeth:add_le(f.hcrc, buffer(26, 2))

    -- Who sent it. In G4 the primary LID fills what KDETH leaves free, in three pieces.
    local rx, lid
    local h2 = h(2):le_uint64()
    if data then
        rx = buffer(33, 1):uint()
        lid = generation == 4 and buffer(28, 3):le_uint() or buffer(6, 2):uint()
    else
        if generation == 1 then rx = buffer(kind == "UD" and 20 or 19, 1):uint() else rx = buffer(21, 1):uint() end
        if generation == 4 then
            local low = h2:rshift(25):band(0x7f):tonumber()
            local middle = h2:rshift(35):band(0x1f):tonumber()
            local high = h2:rshift(50):band(0xfff):tonumber()
            lid = low + middle * 128 + high * 4096
        else
            lid = buffer(6, 2):uint()
        end
    end
    top:add(f.origin_lid, data and buffer(28, 4) or h(2), lid)
    top:add(f.origin_rx, data and buffer(33, 1) or h(2), rx)

    local name = kind or string.format("opcode 0x%02x", opcode)
    top:add(f.kind, buffer(8, 1), name)
    local cq, tagged = flavour == 1 or flavour == 3, flavour == 2 or flavour == 3
    if cq or kind == "RMA_RTS" then top:add_le(f.cq_data, buffer(28, 4)) end
    if tagged then top:add_le(f.tag, h(6)) end
    local info = { name .. (flavour and (" " .. FLAVOURS[flavour]) or "") }

    local words = top:add(buffer(32, 24), "Words of the kind")
    local payload = body_end > 56 and buffer(56, body_end - 56) or nil
    if kind == "INJECT" then
        local len = math.min(small, 16)
        words:add(f.len, buffer(14, 1), UInt64(len))
        if len > 0 then words:add(f.data, buffer(32, len)) end
    elseif kind == "EAGER" then
        local tail = bit.band(small, 7)
        local len = buffer(38, 2):le_uint() * 8 + tail
        words:add(f.len, buffer(38, 2), UInt64(len))
        if tail > 0 then words:add(f.data, buffer(40, tail)) end
    elseif kind == "MP_EAGER_FIRST" then
        if generation == 1 then
            words:add(f.len, buffer(20, 4), UInt64(bit.band(k0, 0x3fffffff)))
            words:add(f.data, buffer(32, 16))
        else
            words:add(f.len, buffer(32, 2), UInt64(buffer(32, 2):le_uint()))
        end
    elseif kind == "MP_EAGER_NTH" then
        words:add_le(f.at, buffer(48, 4))
        words:add_le(f.uid, buffer(52, 3))
        table.insert(info, string.format("of %06X at %d", buffer(52, 3):le_uint(), buffer(48, 4):le_uint()))
        local tail = math.min(small, 16)
        if tail > 0 then words:add(f.data, buffer(32, tail)) end
    elseif kind == "RZV_RTS" then
        words:add(f.flags, buffer(34, 1))
        words:add_le(f.niov, buffer(38, 2))
        words:add_le(f.len, h(5))
        table.insert(info, string.format("%s bytes", h(5):le_uint64()))
        if payload and payload:len() >= 64 and bit.band(buffer(34, 1):uint(), 1) == 0 then
            local rts = top:add(payload(0, 64), "Offer")
            rts:add_le(f.src_vaddr, payload(8, 8))
            rts:add_le(f.src_len, payload(16, 8))
            rts:add_le(f.counter, payload(48, 8))
        end
    elseif kind == "RZV_CTS" then
        local operation = buffer(32, 1):uint()
        words:add(f.dput, buffer(32, 1)):append_text(" (" .. (DPUT[operation] or "unknown") .. ")")
        words:add(f.ntidpairs, buffer(36, 2), buffer(36, 2):le_uint())
        words:add_le(f.niov, buffer(38, 2))
        words:add_le(f.counter, h(5))
        words:add_le(operation == 2 and f.key or f.cookie, h(6))
        table.insert(info, DPUT[operation] or "unknown")
        local pieces = buffer(38, 2):le_uint()
        for n = 0, math.min(pieces, 128) - 1 do
            if payload and payload:len() >= (n + 1) * 64 and (operation ~= 8 or n == 0) then
                iov(top:add(payload(n * 64, 64), "Piece " .. n), payload(n * 64, 64))
            end
        end
    elseif kind == "RMA_RTS" then
        words:add(f.dput, buffer(32, 1)):append_text(" (" .. (DPUT[buffer(32, 1):uint()] or "unknown") .. ")")
        words:add(f.dt, buffer(36, 1))
        words:add(f.op, buffer(37, 1))
        words:add_le(f.niov, buffer(38, 2))
        words:add_le(f.key, h(5))
        words:add_le(f.cookie, h(6))
        if payload and payload:len() >= 64 then iov(top:add(payload(0, 64), "Piece"), payload(0, 64)) end
    elseif data then
        local operation = generation == 1 and buffer(32, 1):uint() or bit.rshift(buffer(32, 1):uint(), 4)
        words:add(f.dput, buffer(32, 1), operation):append_text(" (" .. (DPUT[operation] or "unknown") .. ")")
        words:add(f.dt, buffer(34, 1))
        words:add(f.op, buffer(35, 1))
        words:add_le(f.last_bytes, buffer(36, 2))
        -- The last packet of a request asks for an ACK.
        local last = bit.band(buffer(16, 1):uint(), 0x80) ~= 0
        local count = last and buffer(36, 2) or buffer(38, 2)
        words:add(f.bytes, count, UInt64(count:le_uint()))
        words:add_le(operation == 1 and f.key or f.cookie, h(5))
        -- High half big-endian, low half little-endian.
        words:add(f.rbuf, h(6), UInt64(buffer(52, 4):le_uint(), buffer(48, 4):uint()))
        table.insert(info, string.format("%s, %d bytes", DPUT[operation] or "unknown", count:le_uint()))
    elseif kind == "UD" then
        local operation = UD[generation == 1 and b6 or bit.rshift(b6, 4)] or "unknown"
        words:add(f.ud_op, buffer(14, 1), operation)
        words:add(f.ud_count, h(4), h(4):le_uint64():tonumber())
        words:add(f.ud_start, h(5), h(5):le_uint64():tonumber())
        if generation == 1 then
            words:add_le(f.flow_slid, buffer(48, 3), buffer(48, 3):le_uint())
            words:add(f.flow_src_rx, buffer(51, 1))
            words:add_le(f.flow_dlid, buffer(52, 3), buffer(52, 3):le_uint())
            words:add(f.flow_dst_rx, buffer(55, 1))
        else
            words:add(f.flow_slid, buffer(48, 3), buffer(48, 3):le_uint())
            words:add(f.flow_dlid, buffer(52, 3), buffer(52, 3):le_uint())
            words:add(f.flow_src_rx, buffer(29, 1))
            words:add(f.flow_dst_rx, buffer(31, 1))
        end
        table.insert(info, string.format("%s %s from %s", operation, h(4):le_uint64(), h(5):le_uint64()))
    else
        top:add_proto_expert_info(e.kind)
    end

    if payload then top:add(f.payload, payload) end
    if whole <= buffer:len() and whole >= 60 then top:add_le(f.icrc, buffer(whole - 4, 4)) end
    if psn then table.insert(info, 2, string.format("PSN %06X", psn)) end
    table.insert(info, string.format("%d/%d > %d/%d", lid, rx, buffer(2, 2):uint(), buffer(15, 1):uint()))
    pinfo.cols.info = table.concat(info, ", ")
    return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, opx)

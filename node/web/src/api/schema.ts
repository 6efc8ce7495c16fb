// Made by `npm run types` from openapi.json. Do not edit.

export interface paths {
    "/api/v1/audio": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The sound card that is open. */
        get: operations["get_audio"];
        /** Changes to another device, rate or period while everybody plays. If it cannot be opened, the old one goes on. */
        put: operations["put_audio"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/audio/test-tone": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Plays a test tone in this player's ears only. */
        post: operations["post_test_tone"];
        /** Ends the test tone. */
        delete: operations["delete_test_tone"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/devices": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Audio and MIDI devices of this machine; looking may take some seconds. */
        get: operations["get_devices"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/diagnosis": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Why it glitches, in one sentence, and what to do. */
        get: operations["get_diagnosis"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/graph": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is connected to whom, by which path, as each member reports it. */
        get: operations["get_graph"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The last minutes in figures, one a second. */
        get: operations["get_history"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/link": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Joins or leaves the LAN's Ableton Link session. */
        put: operations["put_link"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/master": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Sets the gain of all that I hear. */
        put: operations["put_master"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Mutes me, sets my input gain, lets me hear myself. */
        put: operations["put_me"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Figures for Prometheus. */
        get: operations["get_metrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/midi": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The system's MIDI ports. */
        get: operations["get_midi"];
        /** Changes to other MIDI ports while everybody plays. Notes that are held on what is left out end. */
        put: operations["put_midi"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/notifications": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the player was told lately, at most 50, oldest first. */
        get: operations["get_notifications"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This description. */
        get: operations["get_openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/peers": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The other nodes of the session. */
        get: operations["get_peers"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/peers/{peer_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Changes my own mix of another node; nobody else hears it. */
        put: operations["put_peer"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/project": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The whole shared project. */
        get: operations["get_project"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /** Edits the project, all commands or none. */
        patch: operations["patch_project"];
        trace?: never;
    };
    "/api/v1/project/{address}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One node of the project's tree. */
        get: operations["get_project_node"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/redo": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes the edit again that was undone last. As `POST /undo`, with `nothing_to_redo`. */
        post: operations["post_redo"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/setup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who this player is, and whether they were asked yet. */
        get: operations["get_setup"];
        /** Answers the first questions: kept on this machine, shown to everybody. */
        put: operations["put_setup"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This node: audio, Link, session and project. */
        get: operations["get_status"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/support-bundle": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Everything that somebody who helps needs to see, without secrets. */
        get: operations["get_support_bundle"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/transport": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The common beat and position. */
        get: operations["get_playback"];
        /** Starts, stops, locates, changes tempo or time signature, for everybody. */
        put: operations["put_playback"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/undo": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Takes this node's latest edit of the project back.
         * @description Parts that somebody else has changed since stay as they are (`kept`). If nothing is left to take back the answer is 409:
         *     `nothing_to_undo` where there is no edit, `changed_since` where all of it was changed by others; undoing once more then takes
         *     the edit before it.
         */
        post: operations["post_undo"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/whoami": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the token of this request may do. */
        get: operations["get_whoami"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ws": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What happens, as it happens, and the same commands.
         * @description A WebSocket of JSON text messages, `ClientMessage` in and `ServerMessage` out. The token comes as `Authorization` header,
         *     as `?ticket=` from `POST /api/v1/ws-ticket`, or as first message `{"type":"auth","token":"…"}` within 5 s. The server
         *     then says `ready`; `{"type":"subscribe","topics":["status","meters"]}` starts what is wanted.
         */
        get: operations["get_socket"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/ws-ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A key for one WebSocket, for clients that cannot send headers with it. */
        post: operations["post_ticket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description A call of this interface that should help. */
        Action: {
            /** @description The JSON body; `null`: none. */
            body?: unknown;
            /** @description What a button that does it says. */
            label: string;
            /** @description The method, such as `PUT`. */
            method: string;
            /** @description The path below `/api/v1`, such as `/audio`. */
            path: string;
        };
        /** @description The sound card and its stream. */
        Audio: {
            /**
             * Format: double
             * @description Longest callback of the last seconds.
             */
            callback_max_us: number;
            /** @description Name of the device or JACK client. */
            device: string;
            /** @description `alsa`, `jack`, `null` or `file`. */
            host: string;
            /**
             * Format: float
             * @description Highest input sample of the last moment, full scale being 0; -120 is silence.
             */
            input_peak_db: number;
            /**
             * Format: double
             * @description From the start of a callback until its sound leaves the card, by the card's own word, in ms; 0 when it has none.
             *     Clicks are played that much earlier, so that they are on the beat at the speaker.
             */
            output_latency_ms: number;
            /**
             * Format: float
             * @description Highest output sample of the last moment, full scale being 0; -120 is silence.
             */
            output_peak_db: number;
            /**
             * Format: int32
             * @description Frames a callback.
             */
            period_frames: number;
            /**
             * Format: int32
             * @description Frames a second of the device.
             */
            rate_hz: number;
            /**
             * Format: int64
             * @description Callbacks the device missed since it was opened.
             */
            xruns: number;
        };
        /** @description Another device or format, taken up while everybody plays; what is absent stays. */
        AudioChange: {
            /** @description `auto`, `null`, `jack`, `file:IN.wav[,OUT.wav]` or an `id` of `GET /devices`. A recording must go to a new file. */
            device?: string | null;
            /**
             * Format: int32
             * @description Frames a callback.
             */
            period_frames?: number | null;
            /**
             * Format: int32
             * @description Frames a second.
             */
            rate_hz?: number | null;
        };
        /** @description One device that `PUT /audio` takes. */
        AudioDevice: {
            /** @description `jack`, `alsa` or `null`. */
            host: string;
            /** @description What to give as `device` to `PUT /audio`, or as `--audio`. */
            id: string;
            /**
             * Format: int32
             * @description The most input channels; `null`: not known.
             */
            inputs?: number | null;
            /** @description Whether `auto` would take it. */
            is_default: boolean;
            /** @description The device in words. */
            name: string;
            /**
             * Format: int32
             * @description The most output channels; `null`: not known.
             */
            outputs?: number | null;
            /** @description Usual rates it can run at, in frames a second. */
            rates_hz: number[];
        };
        /**
         * @description How the sound card is doing.
         * @enum {string}
         */
        AudioRunning: "running" | "opening" | "lost";
        /** @description The sound card that was asked for and the one that is open. */
        AudioState: {
            /** @description What was asked for: `auto`, `null`, `jack`, `file:IN.wav[,OUT.wav]` or a device's name. */
            choice: string;
            /** @description What the player might want to know: a wish the device could not meet, why it is gone. */
            detail?: string | null;
            /** @description Name of the device or JACK client that is open. */
            device: string;
            /** @description `alsa`, `jack`, `null` or `file`. */
            host: string;
            /**
             * Format: int32
             * @description Frames a callback.
             */
            period_frames: number;
            /**
             * Format: int32
             * @description Frames a second.
             */
            rate_hz: number;
            /** @description How it is doing. */
            state: components["schemas"]["AudioRunning"];
        };
        /** @description One changed address. */
        Change: {
            /** @description The address. */
            address: string;
            /** @description What is there now; `null`: nothing any more. */
            value?: unknown;
        };
        /** @description What a client says, one JSON object a text message. */
        ClientMessage: {
            /** @description The bearer token. */
            token: string;
            /** @enum {string} */
            type: "auth";
        } | {
            /** @description Which. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "subscribe";
        } | {
            /** @description Which. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "unsubscribe";
        } | {
            /** @description The edits, applied all or none. */
            commands: components["schemas"]["Command"][];
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "patch";
            /** @description Whether to answer only once they are on disk. */
            wait?: components["schemas"]["Wait"];
        } | {
            /** @description What to change. */
            change: components["schemas"]["PlaybackChange"];
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "playback";
        } | {
            /** @description A parameter such as `/mixer/strip/ID/gain_db`; without a value also a track `/tracks/ID`, or `/chat`. */
            address: string;
            /** @enum {string} */
            type: "touch";
            /** @description Where it stands; `null`: I only touch it. */
            value?: unknown;
        } | {
            /** @description As in `touch`. */
            address: string;
            /** @enum {string} */
            type: "touch_end";
        } | {
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "undo";
        } | {
            /** @description Comes back in the answer. */
            id?: unknown;
            /** @enum {string} */
            type: "redo";
        };
        /** @description One edit of the project. */
        Command: {
            /** @description Which value, such as `/transport/tempo_bpm`. */
            address: string;
            /** @enum {string} */
            op: "set";
            /** @description The new value, within the range the registry gives. */
            value: unknown;
        } | {
            /** @description Which list, such as `/tracks`. */
            address: string;
            /** @enum {string} */
            op: "add";
            /** @description The new item. */
            value: unknown;
        } | {
            /** @description Which item. */
            address: string;
            /** @description The item it goes before; `null`: to the end. */
            before?: string | null;
            /** @enum {string} */
            op: "move";
        } | {
            /** @description Which item. */
            address: string;
            /** @enum {string} */
            op: "delete";
        };
        /** @description What one command did. */
        CommandResult: {
            /** @description The address of what was set, added, moved or deleted. */
            address: string;
        };
        /** @description Whose fault it is, and which player's. */
        Culprit: {
            /** @description What kind. */
            kind: components["schemas"]["CulpritKind"];
            /** @description Which other player, where it is about one. */
            peer_id?: string | null;
        };
        /**
         * @description Whose fault it is.
         * @enum {string}
         */
        CulpritKind: "none" | "device" | "cpu" | "peer" | "network" | "clock" | "unknown";
        /** @description Figures of this node's own device. */
        DeviceHistory: {
            /** @description The longest callback of this second over the time it had: above 1 it came too late. */
            callback_load: (number | null)[];
            /** @description Sound of all others that was made up in this second, because packets were missing. */
            concealed_ms: (number | null)[];
            /** @description Callbacks the device missed in this second. */
            xruns: (number | null)[];
        };
        /** @description Audio and MIDI devices of this machine. */
        Devices: {
            /** @description What `PUT /audio` can be told, best first; `null` is always there. */
            audio: components["schemas"]["AudioDevice"][];
            /** @description Names of MIDI inputs. */
            midi_inputs: string[];
            /** @description Names of MIDI outputs. */
            midi_outputs: string[];
            /** @description What could not be looked at, and why. */
            notes: string[];
        };
        /** @description Why it glitches, in one sentence, and what to do. */
        Diagnosis: {
            action?: components["schemas"]["Action"] | null;
            /** @description Whose fault it is. */
            culprit: components["schemas"]["Culprit"];
            /** @description One sentence that names the culprit. */
            sentence: string;
            /** @description How bad it is. */
            severity: components["schemas"]["Severity"];
        };
        /** @description The state of the shared project. */
        Doc: {
            /**
             * Format: int64
             * @description Changes in the project's history.
             */
            changes: number;
            /** @description Equal on two nodes exactly when their projects are equal. */
            heads_hash: string;
            /** @description Whether everything known is on this node's disk. */
            saved: boolean;
        };
        /** @description The session as its members report it. */
        Graph: {
            /** @description What each end says about its connections: two edges, one each way, where both ends are heard. */
            edges: components["schemas"]["GraphEdge"][];
            /** @description This node and all members that are known of, this node first. */
            nodes: components["schemas"]["GraphNode"][];
        };
        /** @description A connection as the member at `to` reports it. */
        GraphEdge: {
            /** @description Whether sound of `from` arrives at `to`; `null` while it is too early to say. */
            audio_arrives?: boolean | null;
            /** @description Whose sound it carries. */
            from: string;
            /**
             * Format: double
             * @description Mouth of `from` to ear of `to`; `null` until measured.
             */
            one_way_ms?: number | null;
            path?: components["schemas"]["Path"] | null;
            /**
             * Format: double
             * @description Round trip of the network.
             */
            rtt_ms?: number | null;
            /** @description Who hears it, and reports this. */
            to: string;
        };
        /** @description One member in the graph. */
        GraphNode: {
            /** @description Whether it is this node. */
            me: boolean;
            /** @description The name it gave itself, empty if only others know it: a stranger's text, escape it wherever it is shown. */
            name: string;
            /** @description Its identity in libp2p's text form. */
            peer_id: string;
        };
        /** @description The last minutes, one figure a second. All lists of one answer have the same length, oldest first. */
        History: {
            /** @description This node's own device. */
            device: components["schemas"]["DeviceHistory"];
            /**
             * Format: int64
             * @description When the last figure was taken, ms since 1970-01-01 UTC.
             */
            end_ms: number;
            /**
             * Format: int32
             * @description Seconds from one figure to the next.
             */
            interval_s: number;
            /** @description Everybody who was a member within this time. */
            peers: components["schemas"]["PeerHistory"][];
        };
        /** @description Something that undo left alone. */
        Kept: {
            /** @description What. */
            address: string;
            /** @description Who changed it since. */
            peer_id: string;
        };
        /** @description One stretch of the time from mouth to ear. */
        LatencyStage: {
            /**
             * Format: double
             * @description How long it takes.
             */
            ms: number;
            /** @description Which stretch. */
            stage: components["schemas"]["Stage"];
        };
        /** @description The level of one channel; -120 is silence. */
        Level: {
            /**
             * Format: float
             * @description Highest sample of the last moment, full scale being 0.
             */
            peak_db: number;
            /**
             * Format: float
             * @description Root mean square of the last moment, full scale being 0.
             */
            rms_db: number;
        };
        /** @description Ableton Link on this LAN, and the beat as every player has it. */
        Link: {
            /**
             * Format: double
             * @description Beats since the beat's origin at the moment of this answer.
             */
            beat: number;
            /** @description Whether Link is on. */
            enabled: boolean;
            /**
             * Format: int64
             * @description Other Link programs on this LAN.
             */
            peers: number;
            /**
             * Format: double
             * @description Beats since the bar began, from 0 to the beats of a bar.
             */
            phase: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
        };
        /** @description Whether Ableton Link takes part. */
        LinkChange: {
            /** @description `true` joins the LAN's Link session, `false` leaves it. */
            enabled: boolean;
        };
        /** @description One line of the node's log. */
        LogLine: {
            /** @description `error`, `warn`, `info` or `debug`. */
            level: string;
            /** @description What it says, on one line, control characters escaped. */
            message: string;
            /** @description The part of the program that speaks. */
            target: string;
            /**
             * Format: int64
             * @description Milliseconds since 1970-01-01 UTC.
             */
            time_ms: number;
        };
        /** @description The sum of all that I hear. */
        Master: {
            /**
             * Format: float
             * @description Gain of the sum, before the limiter.
             */
            gain_db: number;
        };
        /** @description A change of the sum of all that I hear. */
        MasterChange: {
            /**
             * Format: float
             * @description Gain of the sum, before the limiter.
             */
            gain_db: number;
        };
        /** @description Loudness of the sum (ITU-R BS.1770, EBU R 128); `null` for silence, or until enough is measured. */
        MasterLevel: {
            /**
             * Format: float
             * @description By how much the limiter turned the loudest moment since the last reading down; 0: not at all.
             */
            limiter_reduction_db: number;
            /**
             * Format: float
             * @description Over the last 400 ms.
             */
            momentary_lufs?: number | null;
            /**
             * Format: float
             * @description Over the last 3 s.
             */
            short_term_lufs?: number | null;
        };
        /** @description What is done with this player's own sound. */
        Me: {
            /**
             * Format: float
             * @description Gain of my input before it is sent.
             */
            input_gain_db: number;
            /** @description Whether I hear myself through the node. I do so while muted too, to tune. */
            monitor: boolean;
            /**
             * Format: float
             * @description Gain of what I hear of myself.
             */
            monitor_gain_db: number;
            /** @description Whether the others hear silence instead of me. */
            muted: boolean;
        };
        /** @description A change of my own sound; what is absent stays. */
        MeChange: {
            /**
             * Format: float
             * @description Gain of my input before it is sent.
             */
            input_gain_db?: number | null;
            /** @description Whether I hear myself through the node. */
            monitor?: boolean | null;
            /**
             * Format: float
             * @description Gain of what I hear of myself.
             */
            monitor_gain_db?: number | null;
            /** @description Whether the others hear silence instead of me. */
            muted?: boolean | null;
        };
        /** @description Levels and the beat, many times a second. */
        Meters: {
            /**
             * Format: double
             * @description When this was measured, ms since 1970-01-01 UTC.
             */
            at_ms: number;
            /**
             * Format: double
             * @description Beats since the beat's origin.
             */
            beat: number;
            /** @description What this player plays, one a channel. */
            input: components["schemas"]["Level"][];
            /** @description The sum of all that this player hears. */
            master: components["schemas"]["MasterLevel"];
            /** @description What this player hears, one a channel. */
            output: components["schemas"]["Level"][];
            /** @description What comes from the others. */
            peers: components["schemas"]["PeerLevel"][];
            /**
             * Format: double
             * @description Beats since the bar began.
             */
            phase: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
        };
        /** @description Other MIDI ports, taken up while everybody plays; what is absent stays. */
        MidiChange: {
            /** @description Whether to listen to every instrument that is plugged in. */
            all_inputs?: boolean | null;
            /** @description Inputs to listen to besides, each by its name or a part of it, at most 64. */
            inputs?: string[] | null;
            /** @description Outputs to play on, each by its name or a part of it, at most 64. */
            outputs?: string[] | null;
        };
        /** @description One MIDI port. */
        MidiPort: {
            /** @description Its name, or what was asked for if it is absent. */
            name: string;
            /**
             * Format: int64
             * @description How long ago it last played something; `null`: not yet.
             */
            played_ms_ago?: number | null;
            /** @description What it is to this node. */
            state: components["schemas"]["MidiPortState"];
        };
        /**
         * @description What a MIDI port is to this node.
         * @enum {string}
         */
        MidiPortState: "open" | "closed" | "absent" | "loop" | "refused";
        /** @description The system's MIDI ports: what was chosen and what is open. */
        MidiState: {
            /** @description Whether every instrument that is plugged in is listened to. */
            all_inputs: boolean;
            /**
             * @description The client under which other programs find this node's own two ports, "Bandmesh in" and "Bandmesh out", and those of
             *     a JACK server.
             */
            client: string;
            /** @description Whether the audio device has MIDI ports of its own besides these, as JACK does. */
            device_ports: boolean;
            /** @description All inputs there are, then those that are chosen and absent. */
            input_ports: components["schemas"]["MidiPort"][];
            /** @description The inputs that were chosen besides, each by its name or a part of it. */
            inputs: string[];
            /** @description All outputs there are, then those that are chosen and absent. */
            output_ports: components["schemas"]["MidiPort"][];
            /** @description The outputs that were chosen, each by its name or a part of it. What the band plays goes there. */
            outputs: string[];
            /** @description Why there are no system ports, and what to do; `null`: there are. */
            problem?: string | null;
        };
        /** @description Something worth telling the player once. */
        Notification: {
            /**
             * Format: int64
             * @description Milliseconds since 1970-01-01 UTC.
             */
            at_ms: number;
            /**
             * Format: int64
             * @description Counts up from 1 since the node started.
             */
            id: number;
            /** @description What happened. */
            kind: components["schemas"]["NotificationKind"];
            /** @description Whom it is about; `null`: no other member. */
            peer_id?: string | null;
            /** @description How bad it is. */
            severity: components["schemas"]["Severity"];
            /** @description One sentence; may hold a stranger's name, escape it wherever it is shown. */
            text: string;
        };
        /**
         * @description What a notification is about.
         * @enum {string}
         */
        NotificationKind: "peer_joined" | "peer_left" | "peer_lost" | "peer_back" | "sync_lost" | "sync_back" | "device_lost" | "device_back" | "warning";
        /** @description Edits of the project, applied all or none. */
        PatchRequest: {
            /** @description The edits in order, 1 to 256 of them. */
            commands: components["schemas"]["Command"][];
        };
        /** @description What `PATCH /project` did. */
        PatchResult: {
            /** @description Whether the edits are on disk. */
            durable: boolean;
            /** @description The project after the edits; while numbers of a drag wait for their commit (`wait=none`), the project before them. */
            heads_hash: string;
            /** @description One for each command, in order. */
            results: components["schemas"]["CommandResult"][];
        };
        /**
         * @description The way packets take to another node.
         * @enum {string}
         */
        Path: "lan" | "direct" | "relayed" | "forwarded";
        /** @description Another node of the session. */
        Peer: {
            /** @description Its multiaddr in use; `null` while there is none. */
            address?: string | null;
            audio?: components["schemas"]["PeerAudio"] | null;
            clock?: components["schemas"]["PeerClock"] | null;
            /**
             * Format: float
             * @description Its gain in my own mix.
             */
            gain_db: number;
            /** @description Whether it says that my sound arrives; `null` while it has not said. */
            hears_me?: boolean | null;
            /** @description Whether I muted it in my own mix. */
            muted_by_me: boolean;
            /** @description Whether it sends no sound on purpose. */
            muted_themselves: boolean;
            /** @description The name it gave itself: a stranger's text, escape it wherever it is shown. */
            name: string;
            /**
             * Format: float
             * @description Where it is in my own mix, on top of the shared one: -1 is left, 1 is right.
             */
            pan: number;
            path?: components["schemas"]["Path"] | null;
            /** @description Why packets take this way, or why there is none, in words. */
            path_reason?: string | null;
            /** @description Its identity in libp2p's text form. */
            peer_id: string;
            /**
             * Format: double
             * @description Round trip of the network.
             */
            rtt_ms?: number | null;
            /** @description Whether I soloed it in my own mix: of the others I hear only those that I soloed. */
            soloed_by_me: boolean;
            /** @description How far it is. */
            state: components["schemas"]["PeerState"];
            /** @description Where the time from its mouth to my ear goes; adds up to `audio.one_way_ms`. `null` until all of it is measured. */
            waterfall?: components["schemas"]["LatencyStage"][] | null;
        };
        /** @description The audio stream from another node. Counters run since the stream began. */
        PeerAudio: {
            /**
             * Format: int64
             * @description Times the stream began anew: a gap, a restart, an overflow.
             */
            buffer_resets: number;
            /**
             * Format: int32
             * @description Channels in the latest packet: 1 while the other one would add nothing, as with one microphone in a card of two inputs.
             */
            channels: number;
            /** @description `pcm16`, `pcm24` or `opus`. */
            codec: string;
            /**
             * Format: int64
             * @description Frames made up because the real ones were missing.
             */
            concealed_frames: number;
            /**
             * Format: double
             * @description Concealed frames over all frames played, from 0 to 1.
             */
            concealed_ratio: number;
            /**
             * Format: int32
             * @description Frames in one packet.
             */
            frame_frames: number;
            /**
             * Format: double
             * @description Interarrival jitter of RFC 3550.
             */
            jitter_ms: number;
            /**
             * Format: int64
             * @description Packets that came after their time.
             */
            late: number;
            /**
             * Format: int64
             * @description Packets that never came.
             */
            lost: number;
            /**
             * Format: double
             * @description Mouth to ear between the two engines, measured on the session clock; `null` until it is.
             */
            one_way_ms?: number | null;
            /**
             * Format: double
             * @description Time a packet waits here before it is played.
             */
            playout_delay_ms: number;
            /**
             * Format: int64
             * @description Packets that came.
             */
            received: number;
            /**
             * Format: int64
             * @description Packets won back by redundancy.
             */
            recovered: number;
        };
        /** @description My own mix of another node: nobody else hears it. */
        PeerChange: {
            /**
             * Format: float
             * @description New gain in my mix, from -60 to 12; absent: unchanged.
             */
            gain_db?: number | null;
            /** @description Whether I mute it in my mix; absent: unchanged. */
            muted_by_me?: boolean | null;
            /**
             * Format: float
             * @description New place in my mix, from -1 (left) to 1 (right); absent: unchanged.
             */
            pan?: number | null;
            /** @description Whether I solo it in my mix; absent: unchanged. */
            soloed_by_me?: boolean | null;
        };
        /** @description Another node's clock against ours. */
        PeerClock: {
            /**
             * Format: double
             * @description How fast the offset grows, in parts per million.
             */
            drift_ppm: number;
            /**
             * Format: double
             * @description The true offset lies within plus or minus this.
             */
            error_us: number;
            /**
             * Format: double
             * @description Its clock minus ours.
             */
            offset_us: number;
        };
        /** @description Figures of the stream from another node. `null` where there was none. */
        PeerHistory: {
            /** @description Bound of the offset's error. */
            clock_error_us: (number | null)[];
            /** @description Its clock minus ours. */
            clock_offset_us: (number | null)[];
            /** @description Sound made up in this second. */
            concealed_ms: (number | null)[];
            /** @description Interarrival jitter of RFC 3550. */
            jitter_ms: (number | null)[];
            /** @description Packets that came in this second after their time. */
            late: (number | null)[];
            /** @description Packets missed in this second. */
            lost: (number | null)[];
            /** @description The name it gave itself: a stranger's text. */
            name: string;
            /** @description Mouth to ear. */
            one_way_ms: (number | null)[];
            /** @description Whose. */
            peer_id: string;
            /** @description Time a packet waits here before it is played. */
            playout_delay_ms: (number | null)[];
            /** @description Packets that came in this second. */
            received: (number | null)[];
            /** @description Packets won back by redundancy in this second. */
            recovered: (number | null)[];
            /** @description Round trip of the network. */
            rtt_ms: (number | null)[];
        };
        /** @description The level of another node, before my own gain. */
        PeerLevel: {
            /**
             * Format: float
             * @description Highest sample of the last moment, full scale being 0.
             */
            peak_db: number;
            /** @description Whose. */
            peer_id: string;
            /**
             * Format: float
             * @description Root mean square of the last moment, full scale being 0.
             */
            rms_db: number;
        };
        /**
         * @description How far another node is.
         * @enum {string}
         */
        PeerState: "connecting" | "connected" | "away";
        /** @description The common beat and position. */
        Playback: {
            /** @description Whether the metronome clicks, in my own ears only. */
            metronome: boolean;
            /**
             * Format: double
             * @description Beats since the bar began.
             */
            phase_beats: number;
            /** @description Whether playback runs. */
            playing: boolean;
            /**
             * Format: double
             * @description Position in beats since the start of the song at the moment of this answer.
             */
            position_beats: number;
            /**
             * Format: double
             * @description Tempo in beats a minute.
             */
            tempo_bpm: number;
            /**
             * @description Beats of a bar and the note that is one beat, such as `4/4`.
             * @example 4/4
             */
            time_signature: string;
        };
        /** @description A change of the beat or position, or of my metronome; what is absent stays. */
        PlaybackChange: {
            /** @description Whether the metronome clicks, in my own ears only. */
            metronome?: boolean | null;
            /** @description `true` starts, `false` stops. */
            playing?: boolean | null;
            /**
             * Format: double
             * @description New position in beats since the start of the song.
             */
            position_beats?: number | null;
            /**
             * Format: double
             * @description New tempo in beats a minute, from 20 to 999.
             */
            tempo_bpm?: number | null;
            /** @description New time signature, such as `3/4`. */
            time_signature?: string | null;
        };
        /** @description A problem document. */
        Problem: {
            /**
             * @description The stable word for this kind of error.
             * @example bad_json
             */
            code: string;
            /** @description What is wrong and what to do. */
            detail: string;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description The phrase of the HTTP status. */
            title: string;
            /**
             * @description Always `about:blank`.
             * @example about:blank
             */
            type: string;
        };
        /**
         * @description What the bearer of a token may do.
         * @enum {string}
         */
        Role: "player" | "viewer";
        /** @description What the server says, one JSON object a text message. */
        ServerMessage: {
            /** @enum {string} */
            type: "ready";
        } | {
            /** @description All of them. */
            topics: components["schemas"]["Topic"][];
            /** @enum {string} */
            type: "subscribed";
        } | {
            /** @description As `GET /status`. */
            data: components["schemas"]["Status"];
            /** @enum {string} */
            type: "status";
        } | {
            /** @description One moment. */
            data: components["schemas"]["Meters"];
            /** @enum {string} */
            type: "meters";
        } | {
            /** @description As `GET /peers`. */
            data: components["schemas"]["Peer"][];
            /** @enum {string} */
            type: "peers";
        } | {
            /** @description As `GET /transport`. */
            data: components["schemas"]["Playback"];
            /** @enum {string} */
            type: "playback";
        } | {
            /** @description As `GET /project`. */
            data: unknown;
            /** @enum {string} */
            type: "project";
        } | {
            /** @description The addresses with what is there now, to be put in their places in the order given. */
            changes: components["schemas"]["Change"][];
            /** @enum {string} */
            type: "project_changed";
        } | {
            /** @description In order. */
            lines: components["schemas"]["LogLine"][];
            /**
             * Format: int64
             * @description Lines before these that this reader was too slow for.
             */
            missed: number;
            /** @enum {string} */
            type: "log";
        } | {
            /** @description As `PATCH /project`. */
            data: components["schemas"]["PatchResult"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "patched";
        } | {
            /** @description The common beat and position now. */
            data: components["schemas"]["Playback"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "playback_set";
        } | {
            /** @description In a steady order. */
            data: components["schemas"]["Touch"][];
            /** @enum {string} */
            type: "presence";
        } | {
            /** @description As `GET /graph`. */
            data: components["schemas"]["Graph"];
            /** @enum {string} */
            type: "graph";
        } | {
            /** @description What. */
            data: components["schemas"]["Notification"];
            /** @enum {string} */
            type: "notification";
        } | {
            /** @description As `POST /undo`. */
            data: components["schemas"]["UndoResult"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "undone";
        } | {
            /** @description As `POST /redo`. */
            data: components["schemas"]["UndoResult"];
            /** @description As in the command. */
            id?: unknown;
            /** @enum {string} */
            type: "redone";
        } | {
            /** @description As in the command. */
            id?: unknown;
            /** @description What is wrong and what to do. */
            problem: components["schemas"]["Problem"];
            /** @enum {string} */
            type: "error";
        };
        /** @description A session: the nodes that play together. */
        Session: {
            /** @description Equal on all nodes of the session. */
            id: string;
            /** @description The name given by `--session`. */
            name: string;
        };
        /** @description How this player appears to the others, and whether they were asked yet. */
        Setup: {
            /** @description The player's colour as `#rrggbb`: the chosen one, or else a suggestion. */
            color: string;
            /** @description Whether the player has been through the first questions. */
            done: boolean;
            /** @description What the player plays; empty: not said. */
            instrument: string;
            /** @description The player's name. */
            name: string;
            /** @description A name to begin with: the player's login name. */
            suggested_name: string;
        };
        /** @description Answers to the first questions; what is absent stays. */
        SetupChange: {
            /** @description New colour as `#rrggbb`. */
            color?: string | null;
            /** @description Whether the player has been through the first questions. */
            done?: boolean | null;
            /** @description New instrument, at most 64 characters on one line. */
            instrument?: string | null;
            /** @description New name, 1 to 64 characters on one line. */
            name?: string | null;
        };
        /**
         * @description How bad it is.
         * @enum {string}
         */
        Severity: "good" | "notice" | "bad";
        /**
         * @description A stretch of the way from mouth to ear, between the two engines' callbacks: what can be measured. What the sound
         *     cards add before and after is not known to the node and not in it.
         * @enum {string}
         */
        Stage: "network" | "playout";
        /** @description This node: who it is, what it plays on, the beat and the project. */
        Status: {
            /** @description The sound card and its stream. */
            audio: components["schemas"]["Audio"];
            /** @description Why it glitches, and what to do. */
            diagnosis: components["schemas"]["Diagnosis"];
            /** @description The shared project. */
            doc: components["schemas"]["Doc"];
            /**
             * @description Whether my microphone seems to hear my speakers, or a howl has begun: what comes out of this node is found again in
             *     its input a moment later, or both are one loud lasting tone. Headphones end it.
             */
            feedback_warning: boolean;
            /** @description Ableton Link on this LAN. */
            link: components["schemas"]["Link"];
            /** @description Addresses other nodes can dial, as multiaddrs. */
            listen: string[];
            /** @description The sum of all that I hear. */
            master: components["schemas"]["Master"];
            /** @description My own sound. */
            me: components["schemas"]["Me"];
            /** @description The player's name. */
            name: string;
            /** @description The node's identity in libp2p's text form. */
            peer_id: string;
            /** @description The session the node is in. */
            session: components["schemas"]["Session"];
            /** @description What undo and redo would do. */
            undo: components["schemas"]["UndoState"];
            /**
             * Format: double
             * @description Seconds since the node started.
             */
            uptime_s: number;
            /** @description Version of the program. */
            version: string;
            /** @description What the player should know now, one sentence each that says what to do; empty when all is well. */
            warnings: string[];
        };
        /** @description The test tone that was begun: 440 Hz, in this player's ears only. */
        TestTone: {
            /**
             * Format: float
             * @description Its peak level, full scale being 0.
             */
            level_db: number;
            /**
             * Format: float
             * @description How long it sounds; 0: it was ended.
             */
            seconds: number;
        };
        /** @description A test tone to play. */
        TestToneRequest: {
            /**
             * Format: float
             * @description Peak level, full scale being 0; absent: -20.
             */
            level_db?: number | null;
            /**
             * Format: float
             * @description How long; absent: 2.
             */
            seconds?: number | null;
        };
        /** @description A key for opening one WebSocket. */
        Ticket: {
            /**
             * Format: int64
             * @description Seconds it stays good.
             */
            expires_in_s: number;
            /** @description Goes into `/api/v1/ws?ticket=…`; works once. */
            ticket: string;
        };
        /**
         * @description What can be subscribed to.
         * @enum {string}
         */
        Topic: "status" | "meters" | "peers" | "playback" | "project" | "log" | "presence" | "graph" | "notifications";
        /** @description Something somebody holds or types in right now. */
        Touch: {
            /** @description What is touched: a parameter such as `/mixer/strip/ID/gain_db`, a track `/tracks/ID`, or `/chat`. */
            address: string;
            /** @description That member's name: a stranger's text, escape it wherever it is shown. */
            name: string;
            /** @description Whose node. */
            peer_id: string;
            /** @description Which of that node's pages; opaque, and new for every WebSocket. */
            source: string;
            /** @description Where it stands meanwhile; `null`: it is only touched. */
            value?: unknown;
        };
        /** @description What an undo or a redo did. */
        UndoResult: {
            /** @description The first address that reads differently now. */
            address: string;
            /** @description As in [`UndoState`]. */
            can_redo: boolean;
            /** @description As in [`UndoState`]. */
            can_undo: boolean;
            /** @description Parts of the edit that stayed, because somebody else has changed them since. */
            kept: components["schemas"]["Kept"][];
            /** @description The edit, such as `Gain of Bea`. */
            label: string;
            /** @description As in [`UndoState`]. */
            redo_label?: string | null;
            /** @description As in [`UndoState`]. */
            undo_label?: string | null;
        };
        /** @description What undo and redo would do now. */
        UndoState: {
            /** @description Whether there is an undone edit to make again. */
            can_redo: boolean;
            /** @description Whether there is an edit of this node's own to undo. */
            can_undo: boolean;
            /** @description The edit that redo makes again; `null`: there is none. */
            redo_label?: string | null;
            /** @description The edit that undo takes back, such as `Gain of Bea`; `null`: there is none. */
            undo_label?: string | null;
        };
        /**
         * @description When a `patch` is answered.
         * @enum {string}
         */
        Wait: "disk" | "none";
        /** @description Who asks. */
        WhoAmI: {
            /** @description What the token that came with the request opens. */
            role: components["schemas"]["Role"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    get_audio: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The device now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AudioState"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_audio: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["AudioChange"];
            };
        };
        responses: {
            /** @description The device that plays now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AudioState"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_test_tone: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TestToneRequest"];
            };
        };
        responses: {
            /** @description The tone that sounds now; it ends by itself */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TestTone"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_test_tone: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is silent: `seconds` is 0 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["TestTone"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_devices: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What is plugged in now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Devices"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_diagnosis: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The last seconds, judged */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Diagnosis"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_graph: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The session now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Graph"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_history: {
        parameters: {
            query?: {
                /** @description How far back; absent: all 300 */
                seconds?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Oldest first */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["History"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_link: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LinkChange"];
            };
        };
        responses: {
            /** @description Link now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Link"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_master: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MasterChange"];
            };
        };
        responses: {
            /** @description The sum now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Master"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_me: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MeChange"];
            };
        };
        responses: {
            /** @description My sound now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Me"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_metrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenMetrics text */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/openmetrics-text; version=1.0.0; charset=utf-8": string;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_midi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What is chosen and open now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MidiState"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_midi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["MidiChange"];
            };
        };
        responses: {
            /** @description What is chosen and open now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["MidiState"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_notifications: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The latest notifications */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Notification"][];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_peers: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The others now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Peer"][];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_peer: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description The other node's `peer_id` */
                peer_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PeerChange"];
            };
        };
        responses: {
            /** @description The other node with my mix of it */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Peer"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_project: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The tree whose nodes have the addresses that `PATCH` takes */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    patch_project: {
        parameters: {
            query?: {
                /** @description `disk` (default) answers once the edits are on disk, `none` at once with `durable: false`; numbers that are set again and again with it are committed four times a second */
                wait?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PatchRequest"];
            };
        };
        responses: {
            /** @description The edits are applied */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PatchResult"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_project_node: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description An address without its first slash, such as `transport/tempo_bpm` */
                address: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What is at the address */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_redo: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The edit is made again and on disk */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UndoResult"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_setup: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The answers so far */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Setup"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_setup: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SetupChange"];
            };
        };
        responses: {
            /** @description The answers now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Setup"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_status: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description This node now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Status"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_support_bundle: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A zip of text files; its README says what is in it */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/zip": number[];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_playback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The beat and position now */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Playback"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    put_playback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PlaybackChange"];
            };
        };
        responses: {
            /** @description The beat and position after the change */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Playback"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_undo: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The edit is taken back and on disk */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UndoResult"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_whoami: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The token's role */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WhoAmI"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_socket: {
        parameters: {
            query?: {
                /** @description From `POST /api/v1/ws-ticket`; works once */
                ticket?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The WebSocket is open */
            101: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    post_ticket: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A ticket */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ticket"];
                };
            };
            /** @description A problem document (RFC 9457) whose `detail` says what to do */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}

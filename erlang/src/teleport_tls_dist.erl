%% @private
%% The options with which distributed Erlang encrypts (`-ssl_dist_opt', `-ssl_dist_optfile'), in the form that
%% the engine takes. An option that would have to hold for the engine too, and cannot, is an error.
-module(teleport_tls_dist).

-export([sides/0, file_name/1]).
%% For tests.
-export([sides/3]).

-type options() :: [{atom(), term()}].
-type side() :: teleport_tls:side().
-type role() :: server | client.

%% From this release of OTP on a client verifies, unless it is told otherwise, looks for no name if it is told so, and goes by both the
%% command line and the file. Before, it always looks for the host's, and does not read options for a role of which the file has some.
-define(LATER, 26).

%% Certificates between the node's and the authority's that the engine takes at most. A smaller limit of distributed Erlang would not hold.
-define(DEPTH, 6).

%% Options without a meaning for the engine: they are about TLS 1.2 and earlier, speed, memory, logs, or the socket.
-define(OF_NO_MEANING,
        [secure_renegotiate, client_renegotiation, reuse_session, reuse_sessions, session_tickets, hibernate_after, dh, dhfile,
         honor_cipher_order, honor_ecc_order, beast_mitigation, padding_check, fallback, ktls, log_level, log_alert, key_update_at,
         max_handshake_size, receiver_spawn_opts, sender_spawn_opts, crl_cache, erl_dist, nodelay, keepalive, buffer, sndbuf, recbuf,
         high_watermark, low_watermark, high_msgq_watermark, low_msgq_watermark, priority, tos, linger, delay_send]).

%% For connections that the node accepts, and for those that it opens.
-spec sides() -> {ok, Accepting :: side(), Dialling :: side()} | {error, Why :: iodata()}.
sides() ->
    try
        Release = list_to_integer(erlang:system_info(otp_release)),
        sides(given(server, Release), given(client, Release), Release)
    catch
        throw:{no_options, Why} -> {error, Why}
    end.

-spec sides(options(), options(), Release :: pos_integer()) -> {ok, side(), side()} | {error, iodata()}.
sides(Server, Client, Release) ->
    try
        Accepting = side(server, Server, Release),
        maps:get(identity, Accepting) =:= none andalso
            refuse(server, certfile, "it is not set, and a node that accepts connections needs a certificate"),
        {ok, Accepting, side(client, Client, Release)}
    catch
        throw:{refused, Role, Option, Why} ->
            {error, io_lib:format("of distributed Erlang's options, ~ts of the ~ts cannot be taken over: ~ts", [Option, Role, Why])}
    end.

%% The options of distributed Erlang, those that count first.
-spec given(role(), pos_integer()) -> options().
given(Role, Release) ->
    Given = case init:get_argument(ssl_dist_opt) of
        {ok, Args} -> of_command_line(atom_to_list(Role) ++ "_", lists:append(Args));
        error -> []
    end,
    case of_file(Role) of
        none -> Given;
        Options when Release >= ?LATER, is_list(Options) -> Given ++ Options;
        Options -> Options
    end.

-spec of_command_line(string(), [string()]) -> options().
of_command_line(Prefix, [Name, Value | Others]) ->
    case string:prefix(Name, Prefix) of
        nomatch -> of_command_line(Prefix, Others);
        Option -> [{list_to_atom(Option), value(Option, Value)} | of_command_line(Prefix, Others)]
    end;
of_command_line(_Prefix, _NoPair) ->
    [].

-spec value(string(), string()) -> term().
value(Option, Value) when Option =:= "verify"; Option =:= "fail_if_no_peer_cert"; Option =:= "crl_check" ->
    list_to_atom(Value);
value("depth", Value) ->
    try list_to_integer(Value) catch error:badarg -> Value end;
value("versions", Value) ->
    [list_to_atom(Value)];
value(_Option, Value) ->
    Value.

%% As distributed Erlang has read the file; if it has not yet, as it will.
-spec of_file(role()) -> options() | none.
of_file(Role) ->
    Options = try ets:tab2list(ssl_dist_opts)
    catch error:badarg -> read(init:get_argument(ssl_dist_optfile))
    end,
    proplists:get_value(Role, Options, none).

-spec read({ok, [[string()]]} | error) -> [{term(), options()}].
read({ok, [[File]]}) ->
    case file:script(File) of
        {ok, Options} when is_list(Options) -> Options;
        {ok, _Other} -> throw({no_options, io_lib:format("the file ~ts of -ssl_dist_optfile has no list in it", [File])});
        {error, Reason} -> throw({no_options, io_lib:format("the file ~ts of -ssl_dist_optfile: ~ts", [File, file:format_error(Reason)])})
    end;
read(_None) ->
    [].

-spec side(role(), options(), pos_integer()) -> side().
side(Role, Options, Release) when is_list(Options) ->
    lists:foreach(fun(Option) -> check(Role, Option) end, Options),
    Verify = verify(Role, Options, Release),
    Authorities = authorities(Role, Options),
    Verify =/= nothing andalso Authorities =:= none andalso
        refuse(Role, cacertfile, "it is not set, and peers are to be verified"),
    #{identity => identity(Role, Options), authorities => Authorities, verify => Verify, names => names(Role, Options, Release)};
side(Role, Other, _Release) ->
    refuse(Role, "what is given", io_lib:format("~0tP is no list", [Other, 10])).

-spec verify(role(), options(), pos_integer()) -> required | if_given | nothing.
verify(Role, Options, Release) ->
    Default = case Role of
        client when Release >= ?LATER -> verify_peer;
        _ -> verify_none
    end,
    case {Role, proplists:get_value(verify, Options, Default), proplists:get_value(fail_if_no_peer_cert, Options, false)} of
        {_, verify_none, _} -> nothing;
        {server, verify_peer, false} -> if_given;
        {_, verify_peer, _} -> required
    end.

%% A server checks no names. A client checks that of the host to which it connects, unless it is told not to.
-spec names(role(), options(), pos_integer()) -> host_or_common_name | any.
names(server, _Options, _Release) ->
    any;
names(client, Options, Release) ->
    case proplists:get_value(server_name_indication, Options) of
        disable when Release >= ?LATER -> any;
        _ -> host_or_common_name
    end.

-spec identity(role(), options()) -> {teleport_tls:pem(), teleport_tls:pem()} | none.
identity(Role, Options) ->
    case proplists:get_value(certs_keys, Options) of
        undefined -> certificate(Role, Options);
        [Of] -> certificate(Role, maps:to_list(Of))
    end.

-spec certificate(role(), options()) -> {teleport_tls:pem(), teleport_tls:pem()} | none.
certificate(Role, Options) ->
    File = proplists:get_value(certfile, Options),
    case proplists:get_value(cert, Options) of
        undefined when File =:= undefined -> none;
        undefined -> {file(File), key(Role, Options, file(File))};
        Certificates -> {certificates(Certificates), key(Role, Options, none)}
    end.

-spec key(role(), options(), teleport_tls:pem() | none) -> teleport_tls:pem().
key(Role, Options, Otherwise) ->
    case {proplists:get_value(key, Options), proplists:get_value(keyfile, Options)} of
        {undefined, undefined} when Otherwise =:= none -> refuse(Role, keyfile, "it is not set");
        {undefined, undefined} -> Otherwise;
        {undefined, File} -> file(File);
        {{Type, Der}, _} -> {pem, pem([{heading(Type), Der}])}
    end.

-spec authorities(role(), options()) -> teleport_tls:pem() | none.
authorities(_Role, Options) ->
    case {proplists:get_value(cacerts, Options), proplists:get_value(cacertfile, Options)} of
        {undefined, undefined} -> none;
        {undefined, File} -> file(File);
        {Certificates, _} -> certificates(Certificates)
    end.

-spec file(file:name_all()) -> teleport_tls:pem().
file(Name) ->
    {file, file_name(Name)}.

%% A file's name as the system has it, from the root on. Distributed Erlang that goes over the engine begins before the file server.
-spec file_name(file:name_all()) -> binary().
file_name(Name) ->
    {ok, Folder} = erl_prim_loader:get_cwd(),
    case filename:absname(Name, Folder) of
        Raw when is_binary(Raw) -> Raw;
        Text -> unicode:characters_to_binary(Text, unicode, file:native_name_encoding())
    end.

-spec certificates(term()) -> {pem, binary()}.
certificates(Certificates) ->
    {pem, pem([{"CERTIFICATE", certificate(Certificate)} || Certificate <- lists:flatten([Certificates])])}.

%% DER, or what `public_key:cacerts_get/0' has.
certificate({cert, Der, _Decoded}) -> Der;
certificate(Der) -> Der.

-spec heading(atom()) -> string().
heading('RSAPrivateKey') -> "RSA PRIVATE KEY";
heading('ECPrivateKey') -> "EC PRIVATE KEY";
heading('PrivateKeyInfo') -> "PRIVATE KEY".

-spec pem([{string(), binary()}]) -> binary().
pem(Entries) ->
    iolist_to_binary([["-----BEGIN ", Heading, "-----\n", lines(base64:encode(Der)), "-----END ", Heading, "-----\n"]
                      || {Heading, Der} <- Entries]).

lines(<<Line:64/binary, Rest/binary>>) -> [Line, $\n | lines(Rest)];
lines(<<>>) -> [];
lines(Line) -> [Line, $\n].

%% Whether an option is known, and is one that can hold for the engine.
-spec check(role(), term()) -> ok.
check(Role, {File, Name}) when File =:= certfile; File =:= keyfile; File =:= cacertfile ->
    is_list(Name) orelse is_binary(Name) orelse refuse(Role, File, io_lib:format("~0tP is no file's name", [Name, 10])),
    ok;
check(Role, {cert, Certificates}) ->
    is_der(Certificates) orelse refuse(Role, cert, "it is not DER"),
    ok;
check(Role, {cacerts, Certificates}) ->
    is_list(Certificates) andalso is_der(Certificates) orelse refuse(Role, cacerts, "it is no list of DER"),
    ok;
check(Role, {key, Key}) ->
    case Key of
        {Type, Der} when is_binary(Der), Type =:= 'RSAPrivateKey' orelse Type =:= 'ECPrivateKey' orelse Type =:= 'PrivateKeyInfo' -> ok;
        _ -> refuse(Role, key, "only RSAPrivateKey, ECPrivateKey and PrivateKeyInfo in DER are")
    end;
check(Role, {certs_keys, Given}) ->
    case Given of
        [#{} = Of] -> lists:foreach(fun(Option) -> check(Role, Option) end, maps:to_list(Of));
        _ -> refuse(Role, certs_keys, "only one certificate is, with its key")
    end;
check(Role, {password, Password}) ->
    Password =:= "" orelse Password =:= <<>> orelse
        refuse(Role, password, "keys that are protected by a password cannot be read; write the key without one (openssl pkey)"),
    ok;
check(_Role, {verify, Verify}) when Verify =:= verify_peer; Verify =:= verify_none ->
    ok;
check(_Role, {fail_if_no_peer_cert, Fail}) when is_boolean(Fail) ->
    ok;
check(client, {server_name_indication, disable}) ->
    ok;
check(client, {server_name_indication, _Host}) ->
    refuse(client, server_name_indication, "a name that is the same for all nodes is not looked for; only disable is taken");
check(Role, {versions, Versions}) ->
    is_list(Versions) andalso lists:member('tlsv1.3', Versions) orelse
        refuse(Role, versions, io_lib:format("teleport has TLS 1.3 only, and ~0tP does not allow it", [Versions, 10])),
    ok;
check(_Role, {crl_check, false}) ->
    ok;
check(_Role, {depth, Depth}) when is_integer(Depth), Depth >= ?DEPTH ->
    ok;
check(Role, {Option, _Value}) when is_atom(Option) ->
    lists:member(Option, ?OF_NO_MEANING) orelse refuse(Role, Option, "teleport cannot do what it asks for"),
    ok;
check(Role, Other) ->
    refuse(Role, io_lib:format("~0tP", [Other, 5]), "it is no option with a value").

is_der(Certificates) ->
    lists:all(fun(Der) -> is_binary(certificate(Der)) end, lists:flatten([Certificates])).

-spec refuse(role(), atom() | iodata(), iodata()) -> no_return().
refuse(Role, Option, Why) when is_atom(Option) -> refuse(Role, atom_to_list(Option), Why);
refuse(Role, Option, Why) -> throw({refused, Role, Option, Why}).

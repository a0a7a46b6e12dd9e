%% @private
%% A parse transform that writes a module's documentation as an EEP 48 chunk, for `h/1' of Erlang's shell and
%% of IEx. The chunk goes into doc/chunks beside the folder that the module is compiled to. Without the
%% application edoc nothing is written.
-module(teleport_docs).

-export([parse_transform/2]).

-spec parse_transform([erl_parse:abstract_form()], [term()]) -> [erl_parse:abstract_form()].
parse_transform(Forms, Options) ->
    %% A variable hides edoc from tools that list the dependencies at run time: it is needed only to compile.
    _ = [write(Edoc, source(Forms), filename:join(filename:dirname(Out), "doc"))
         || {outdir, Out} <- Options, Edoc <- [edoc], is_there(Edoc)],
    Forms.

-spec source([erl_parse:abstract_form()]) -> file:filename().
source([{attribute, _, file, {File, _Line}} | _Forms]) -> File.

-spec is_there(module()) -> boolean().
is_there(Module) -> code:ensure_loaded(Module) =:= {module, Module}.

-spec write(module(), file:filename(), file:filename()) -> ok.
write(Edoc, Source, Dir) ->
    File = filename:join([Dir, "chunks", filename:basename(Source, ".erl") ++ ".chunk"]),
    try
        ok = filelib:ensure_dir(File),
        ok = Edoc:files([Source], [{doclet, edoc_doclet_chunks}, {layout, edoc_layout_chunks}, {dir, Dir}]),
        {ok, Chunk} = file:read_file(File),
        [ok = file:write_file(File, term_to_binary(in_markdown(Converter, binary_to_term(Chunk))))
         || Converter <- [edoc_html_to_markdown], is_there(Converter)]
    of
        _ -> ok
    catch
        _:_ ->
            _ = file:delete(File), % nothing depends on it
            ok
    end.

%% IEx 1.20 and later read Markdown only, Erlang's shells before OTP 27 HTML only. The converter exists from
%% OTP 27 on.
-spec in_markdown(module(), tuple()) -> tuple().
in_markdown(Converter, {docs_v1, Anno, Language, <<"application/erlang+html">>, OfModule, Metadata, Docs}) ->
    {docs_v1, Anno, Language, <<"text/markdown">>, text(Converter, OfModule), Metadata,
     [{Of, At, Signature, text(Converter, Doc), More} || {Of, At, Signature, Doc, More} <- Docs]}.

text(Converter, #{} = Doc) -> maps:map(fun(_Language, Html) -> Converter:convert_html(teleport, Html) end, Doc);
text(_Converter, None) -> None.
